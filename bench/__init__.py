"""Measurements whose figures are quoted anywhere; each writes a page to bench/results/."""
