"""What peft's own ``merge_and_unload`` gives, on adapters that peft saved (made by ``peft/make.py``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from mergery.checkpoint import Adapter, Checkpoint

CASES = sorted(path.parent for path in (Path(__file__).parent / "peft").glob("*/adapter"))


def test_the_cases_are_there():
    assert [case.name for case in CASES] == ["gpt2-dora", "llama-dora", "llama-saved", "mixtral"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_merged_tensors_are_pefts(case, apply):
    model, adapter = Checkpoint.open(case), Adapter.open(case / "adapter")
    updates = adapter.updates(model)
    before, merged = load_file(case / "model.safetensors"), load_file(case / "merged.safetensors")
    assert sorted(updates) == sorted(merged)
    assert list(updates) == [name for name in model.tensors if name in updates]
    for name, expected in merged.items():
        result = apply(updates[name], before[name])
        np.testing.assert_allclose(result, expected, rtol=0, atol=3e-7 * np.abs(expected).max(), err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_byte_of_the_adapter_is_used(case):
    adapter = Adapter.open(case / "adapter")
    used = [
        step.sources for update in adapter.updates(Checkpoint.open(case)).values() for step in update.steps
    ]
    names = [source.name for sources in used for source in sources]
    assert sorted(names) == sorted(adapter.tensors)
    assert adapter.bytes == sum(value.nbytes for value in load_file(adapter.file).values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_settings_that_peft_saves_are_all_known(case):
    assert Adapter.open(case / "adapter").settings.unknown == ()
