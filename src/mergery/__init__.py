"""Mergery: breed a better language model out of existing ones, without training."""
