"""Merge methods: one family, one file. See :mod:`mergery.methods.api` for how one is written."""

from mergery.methods.api import (
    Fraction,
    Interval,
    MergeMethod,
    NonNegative,
    Parameter,
    PerModel,
    Real,
    Scalar,
    Value,
    each,
    get_method,
    merge_method,
    method_names,
)
from mergery.stack import RandomKey, Stack, TaskVectors, Weights

__all__ = [
    "Fraction",
    "Interval",
    "MergeMethod",
    "NonNegative",
    "Parameter",
    "PerModel",
    "RandomKey",
    "Real",
    "Scalar",
    "Stack",
    "TaskVectors",
    "Value",
    "Weights",
    "each",
    "get_method",
    "merge_method",
    "method_names",
]
