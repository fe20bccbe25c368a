"""Searches against each other, on suites of tiny experts."""

from bench.search.tournament import main

__all__ = ["main"]
