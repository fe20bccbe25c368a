"""The same tensor of several models, read and reduced piece by piece."""

from mergery.stack.chunk import Chunk
from mergery.stack.random import RandomKey
from mergery.stack.result import Combination, Mapped, Merged, Sparsity
from mergery.stack.stack import Compute, Place, Reductions, Sparse, Stack, TaskVectors, Weights, WholeModel

__all__ = [
    "Chunk",
    "Combination",
    "Compute",
    "Mapped",
    "Merged",
    "Place",
    "RandomKey",
    "Reductions",
    "Sparse",
    "Sparsity",
    "Stack",
    "TaskVectors",
    "Weights",
    "WholeModel",
]
