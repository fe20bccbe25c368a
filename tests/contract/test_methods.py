"""Every registered method keeps the promises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mergery.methods import MergeMethod, get_method, method_names
from mergery.methods.testing import PROMISES


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", method_names())
def test_promise(name: str, promise: Callable[[MergeMethod], None]) -> None:
    promise(get_method(name))
