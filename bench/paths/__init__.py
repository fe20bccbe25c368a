"""What path space is worth, on tiny experts: gains, planted optima, encodings, written models, sharing."""

from bench.paths.page import main

__all__ = ["main"]
