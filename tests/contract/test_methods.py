"""Every registered merge method keeps every promise."""

from __future__ import annotations

import pytest

from mergery.methods import get_method, method_names
from mergery.methods.testing import PROMISES


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("name", method_names())
def test_promise(name, promise):
    promise(get_method(name))
