"""The arithmetic, against float64."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from mergery.errors import CheckpointError

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def exact(*values: np.ndarray) -> list[np.ndarray]:
    return [value.astype(np.float64) for value in values]


def close(result: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.fixture
def one(make_base, make_adapter, apply):
    """Lays an adapter on a model and gives what becomes of its tensor ``name``, and the update."""

    def run(base, tensors, name="layers.0.q.weight", block=3, **settings):
        model = make_base(base)
        updates = make_adapter(tensors, **settings).updates(model)
        assert list(updates) == [name]
        return apply(updates[name], base[name], block), updates[name]

    return run


def test_a_low_rank_product_is_added(one):
    w, a, b = normal(11, 5), normal(2, 5), normal(11, 2)
    result, update = one(
        {"layers.0.q.weight": w}, {"layers.0.q.lora_A.weight": a, "layers.0.q.lora_B.weight": b}
    )
    w, a, b = exact(w, a, b)
    close(result, w + 3 / 2 * b @ a)
    assert (update.rows, update.columns, update.whole, update.bytes) == (11, 5, False, 4 * (10 + 22))


def test_rank_stabilised_scale(one):
    w, a, b = normal(11, 5), normal(2, 5), normal(11, 2)
    pair = {"layers.0.q.lora_A.weight": a, "layers.0.q.lora_B.weight": b}
    result, _ = one({"layers.0.q.weight": w}, pair, use_rslora=True)
    w, a, b = exact(w, a, b)
    close(result, w + 3 / math.sqrt(2) * b @ a)


def test_weights_that_store_inputs_first(one):
    w, a, b = normal(5, 11), normal(2, 5), normal(11, 2)
    result, update = one(
        {"layers.0.q.weight": w}, {"layers.0.q.lora_A.weight": a, "layers.0.q.lora_B.weight": b}
    )
    w, a, b = exact(w, a, b)
    close(result, w + 3 / 2 * (b @ a).T)
    assert not update.whole


def test_embeddings(one):
    w, a, b = normal(40, 6), normal(2, 40), normal(6, 2)
    parts = {"embed.lora_embedding_A": a, "embed.lora_embedding_B": b}
    result, _ = one({"embed.weight": w}, parts, name="embed.weight")
    w, a, b = exact(w, a, b)
    close(result, w + 3 / 2 * (b @ a).T)


def test_dora_keeps_a_magnitude_for_each_output(one):
    w, a, b, m = normal(70, 5), normal(2, 5), normal(70, 2), normal(70)
    parts = {
        "layers.0.q.lora_A.weight": a,
        "layers.0.q.lora_B.weight": b,
        "layers.0.q.lora_magnitude_vector": m,
    }
    result, update = one({"layers.0.q.weight": w}, parts, use_dora=True)
    w, a, b, m = exact(w, a, b, m)
    v = w + 3 / 2 * b @ a
    close(result, m[:, None] * v / np.linalg.norm(v, axis=1, keepdims=True))
    assert not update.whole


@pytest.mark.parametrize("kind", ["conv1d", "embedding"])
def test_dora_down_the_columns_needs_all_rows(one, kind):
    w, a, b, m = normal(70, 5), normal(2, 70), normal(5, 2), normal(5)
    ends = (
        ("lora_embedding_A", "lora_embedding_B")
        if kind == "embedding"
        else ("lora_A.weight", "lora_B.weight")
    )
    parts = {
        f"layers.0.q.{ends[0]}": a,
        f"layers.0.q.{ends[1]}": b,
        "layers.0.q.lora_magnitude_vector.weight": m,
    }
    result, update = one({"layers.0.q.weight": w}, parts, use_dora=True)
    assert update.whole
    with pytest.raises(ValueError, match="expected all 70 rows, got 69"):
        update.load().apply(w[:69].copy(), 0)
    w, a, b, m = exact(w, a, b, m)
    v = w + 3 / 2 * (b @ a).T
    close(result, m * v / np.linalg.norm(v, axis=0))


def test_an_output_without_direction_stays_zero(one):
    w, b = np.zeros((4, 5), np.float32), np.zeros((4, 2), np.float32)
    w[1] = 2
    parts = {
        "layers.0.q.lora_A.weight": normal(2, 5),
        "layers.0.q.lora_B.weight": b,
        "layers.0.q.lora_magnitude_vector": np.full(4, 3, np.float32),
    }
    result, _ = one({"layers.0.q.weight": w}, parts, use_dora=True)
    expected = np.zeros((4, 5))
    expected[1] = 3 / math.sqrt(5)
    close(result, expected)


@pytest.mark.parametrize("kernel", [(3,), (2, 3), (1, 1)])
@pytest.mark.parametrize("dora", [False, True])
def test_convolutions_do_to_an_input_what_the_adapter_does(one, kernel, dora):
    ones = (1,) * len(kernel)
    w, a, b, m = normal(7, 4, *kernel), normal(2, 4, *kernel), normal(7, 2, *ones), normal(1, 7, *ones)
    parts = {"layers.0.q.lora_A.weight": a, "layers.0.q.lora_B.weight": b}
    parts |= {"layers.0.q.lora_magnitude_vector": m} if dora else {}
    result, update = one({"layers.0.q.weight": w}, parts, use_dora=dora)
    assert (update.rows, update.columns) == (7, 4 * math.prod(kernel))
    convolve = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d}[len(kernel)]
    w, a, b, m, result = map(torch.from_numpy, exact(w, a, b, m, result))
    x = torch.from_numpy(RNG.standard_normal((1, 4, *(6,) * len(kernel))))
    expected = convolve(x, w) + 3 / 2 * convolve(convolve(x, a), b)
    if dora:
        delta = torch.einsum("or,ri...->oi...", b.reshape(7, 2), a)
        expected *= m / (w + 3 / 2 * delta).flatten(1).norm(dim=1).reshape(m.shape)
    close(convolve(x, result).numpy(), expected.numpy())


@pytest.mark.parametrize("stored", ["out first", "in first"])
def test_stacked_experts(one, stored):
    experts, rank, wide, deep = 3, 2, 10, 7
    w = normal(experts, deep, wide) if stored == "out first" else normal(experts, wide, deep)
    a, b = normal(experts * rank, wide), normal(deep, rank * experts)
    parts = {"layers.0.mlp.experts.lora_A.weight": a, "layers.0.mlp.experts.lora_B.weight": b}
    name = "layers.0.mlp.experts.down_proj"
    result, update = one({name: w}, parts, name=name, target_parameters=["experts.down_proj"])
    w, a, b = exact(w, a, b)
    for expert in range(experts):
        delta = 3 / 2 * b[:, expert::experts] @ a[expert * rank : (expert + 1) * rank]
        close(result[expert], w[expert] + (delta if stored == "out first" else delta.T))
    assert (update.rows, update.columns) == (experts * w.shape[1], w.shape[2])


def test_a_bias_is_replaced_then_added_to(make_base, make_adapter, apply):
    base = {"layers.0.q.weight": normal(11, 5), "layers.0.q.bias": normal(11)}
    saved, added = normal(11), normal(11)
    parts = {
        "layers.0.q.base_layer.bias": saved,
        "layers.0.q.lora_B.bias": added,
        "layers.0.q.lora_A.weight": normal(2, 5),
        "layers.0.q.lora_B.weight": normal(11, 2),
    }
    updates = make_adapter(parts, bias="lora_only", lora_bias=True).updates(make_base(base))
    assert sorted(updates) == ["layers.0.q.bias", "layers.0.q.weight"]
    saved, added = exact(saved, added)
    close(apply(updates["layers.0.q.bias"], base["layers.0.q.bias"]), saved + 3 / 2 * added)


def test_saved_embeddings_replace_then_get_their_product(one):
    w, saved, a, b = normal(40, 6), normal(40, 6), normal(2, 40), normal(6, 2)
    parts = {"embed.base_layer.weight": saved, "embed.lora_embedding_A": a, "embed.lora_embedding_B": b}
    result, _ = one({"embed.weight": w}, parts, name="embed.weight")
    saved, a, b = exact(saved, a, b)
    close(result, saved + 3 / 2 * (b @ a).T)


def test_rows_of_tokens_are_replaced(one):
    w, values = normal(40, 6), normal(3, 6)
    parts = {"embed.token_adapter.trainable_tokens_delta": values}
    result, _ = one({"embed.weight": w}, parts, name="embed.weight", trainable_token_indices=[31, 4, 5])
    expected = w.copy()
    expected[[31, 4, 5]] = values
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float32])
def test_every_float_is_read_as_torch_reads_it(one, dtype):
    saved = torch.randn(40, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    saved[0, :3] = torch.tensor([float("inf"), -0.0, 1e-6])
    result, _ = one({"embed.weight": normal(40, 6)}, {"embed.weight": saved}, name="embed.weight")
    assert np.array_equal(result, saved.float().numpy())


@pytest.mark.parametrize("kind", ["linear", "conv1d", "dora", "experts"])
def test_any_cut_into_blocks_gives_the_same_bytes(make_base, make_adapter, kind):
    shape, experts = (
        {"conv1d": (150, 333), "experts": (3, 50, 333)}.get(kind, (150, 333)),
        3 if kind == "experts" else 1,
    )
    rows, columns = shape[-2:]
    a, b = (normal(8 * experts, columns), normal(rows, 8 * experts))
    if kind == "conv1d":
        a, b = normal(8, rows), normal(columns, 8)
    parts = {"layers.0.q.lora_A.weight": a, "layers.0.q.lora_B.weight": b}
    parts |= {"layers.0.q.lora_magnitude_vector": normal(rows)} if kind == "dora" else {}
    name = "layers.0.q.stack" if kind == "experts" else "layers.0.q.weight"
    base = normal(*shape)
    settings = {"r": 8, "use_dora": kind == "dora", "target_parameters": ["q.stack"]}
    update = make_adapter(parts, **settings).updates(make_base({name: base}))[name]
    loaded, results = update.load(), []
    for cuts in ([], [1], [31, 33], [32, 64, 96], [5, 6, 7, 100, 149], list(range(1, 150))):
        result = base.copy().reshape(update.rows, update.columns)
        for first, end in zip([0, *cuts], [*cuts, update.rows], strict=True):
            loaded.apply(result[first:end], first)
        results.append(result.tobytes())
    assert len(results[0]) == base.nbytes
    assert all(result == results[0] for result in results)


def test_the_number_of_threads_of_blas_does_not_show(write_adapter, make_base):
    base = normal(512, 1024)
    make_base({"layers.0.q.weight": base})
    pair = {"layers.0.q.lora_A.weight": normal(64, 1024), "layers.0.q.lora_B.weight": normal(512, 64)}
    folder = write_adapter(pair, r=64)
    program = (
        "import sys, hashlib, numpy as np; from mergery.checkpoint import Adapter, Checkpoint;"
        "(update,) = Adapter.open(sys.argv[1]).updates(Checkpoint.open(sys.argv[2])).values();"
        "rows = np.zeros((512, 1024), np.float32); update.load().apply(rows, 0);"
        "print(hashlib.sha256(rows.tobytes()).hexdigest(), 'torch' in sys.modules)"
    )
    printed = [
        subprocess.run(
            [sys.executable, "-c", program, str(folder), str(folder.parent / "base")],
            env=os.environ
            | {"OPENBLAS_NUM_THREADS": count, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for count in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert printed[0].endswith("False\n")


def test_blocks_that_are_no_rows_of_the_tensor(one):
    w, pair = (
        normal(11, 5),
        {"layers.0.q.lora_A.weight": normal(2, 5), "layers.0.q.lora_B.weight": normal(11, 2)},
    )
    _, update = one({"layers.0.q.weight": w}, pair)
    loaded = update.load()
    with pytest.raises(ValueError, match="float32 rows of 5"):
        loaded.apply(np.zeros((2, 4), np.float32), 0)
    with pytest.raises(ValueError, match="float32 rows of 5"):
        loaded.apply(np.zeros((2, 5)), 0)
    with pytest.raises(ValueError, match="rows 10 to 12 of 11"):
        loaded.apply(np.zeros((2, 5), np.float32), 10)


def test_a_file_that_was_cut_after_it_was_opened(one):
    pair = {"layers.0.q.lora_A.weight": normal(2, 5), "layers.0.q.lora_B.weight": normal(11, 2)}
    _, update = one({"layers.0.q.weight": normal(11, 5)}, pair)
    file = update.steps[0].sources[0].file
    os.truncate(file, file.stat().st_size - 8)
    with pytest.raises(CheckpointError, match=r"ends inside|has changed"):
        update.load()
