"""Paths written as stock models, against the graph that was searched and the paper's own graph."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random

import torch
import transformers as hf

from bench.records import Records
from mergery import merge
from mergery.checkpoint import ModelRef
from mergery.evolve.paths import Hop, LivePaths, path_recipe
from mergery.evolve.paths import Path as Hops

SIZE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
GPT2 = {"n_embd": 32, "n_head": 4, "n_positions": 128}
KINDS: Mapping[str, Mapping[str, object]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 8},
    "Qwen2": {},
    "Qwen3": {"head_dim": 8},
    "Phi3": {},
    "Gemma2": {"head_dim": 8},
    "Gemma3Text": {"head_dim": 8},
    "GPTNeoX": {"num_key_value_heads": 4},
    "GPT2": GPT2,
    "Mixtral": {"num_local_experts": 3},
}
"""By the prefix of the configuration's class in transformers: what is not as in ``SIZE``."""
SIXTEEN = "trained Llamas, 16 bits"
TRAINED: Mapping[str, str] = {"trained Llamas": "float32", SIXTEEN: "bfloat16"}
"""Experts of a suite, and the type that their paths are written in."""


@dataclass(frozen=True)
class Written:
    """One path: the largest difference of logits, as a share of the largest logit, and equal first choices.

    ``searched`` compares the written model with the model that a search scores; ``paper`` with the graph of
    Akiba et al., where the residual stream is multiplied before every layer.
    """

    kind: str
    seed: int
    hops: int
    tokens: int
    searched: float
    searched_same: int
    paper: float
    paper_same: int


def random_model(kind: str, folder: Path, *, layers: int, seed: int, **changes: object) -> Path:
    """A model of random weights, none of whose tensors is all zeros or all ones."""
    own = dict(KINDS[kind])
    count = {"n_layer": layers} if own.get("n_embd") else {"num_hidden_layers": layers}
    size = {key: value for key, value in SIZE.items() if not (own.get("n_embd") and key == "hidden_size")}
    config = getattr(hf, f"{kind}Config")(**size | own | count | changes)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = hf.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


def random_path(depths: Sequence[int], dice: Random) -> tuple[list[tuple[int, int]], list[float]]:
    """Layers of all models in any order, some of them twice and others not at all; a scale for each."""
    layers = [(model, layer) for model, depth in enumerate(depths) for layer in range(depth)]
    visits = dice.choices(layers, k=dice.randrange(depths[0], 2 * depths[0]))
    return visits, [1.0, *(dice.uniform(0.7, 1.4) for _ in visits[1:])]


def measure(kind: str, models: Sequence[Path], ids: torch.Tensor, *, seed: int) -> Written:
    """Write one random path, load it as anyone does, and compare."""
    refs = [ModelRef(str(model)) for model in models]
    live = LivePaths(refs, state_bytes=0)
    visits, scales = random_path(live.depths, Random(f"{kind} {seed}"))
    path = Hops.from_scales(visits, scales)
    with tempfile.TemporaryDirectory() as folder:
        merge(path_recipe(path, refs, dtype=TRAINED.get(kind, "float32")), Path(folder) / "out")
        written = hf.AutoModelForCausalLM.from_pretrained(
            Path(folder) / "out", trust_remote_code=False, dtype=torch.float32
        )
    with torch.inference_mode():
        got, searched, paper = (
            model(input_ids=ids, use_cache=False).logits
            for model in (written, live.build(path), _papers(live, visits, scales))
        )
    return Written(kind, seed, len(path), ids.numel(), *_difference(got, searched), *_difference(got, paper))


def _papers(
    live: LivePaths, visits: Sequence[tuple[int, int]], scales: Sequence[float]
) -> hf.PreTrainedModel:
    """The paper's graph: layers as they are, the stream multiplied before each."""
    model = live.build(Hops(tuple(Hop(*visit) for visit in visits)))
    decoder = model.get_decoder()
    (layers,) = [child for child in decoder.children() if isinstance(child, torch.nn.ModuleList)]
    for layer, scale in zip(layers, scales, strict=True):
        layer.register_forward_pre_hook(partial(_multiply, scale))
    return model


def _multiply(scale: float, _: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[object, ...]:
    return (scale * inputs[0], *inputs[1:])


def _difference(got: torch.Tensor, wanted: torch.Tensor) -> tuple[float, int]:
    """Largest difference as a share of the largest value, and how often the largest is at the same place."""
    share = (got - wanted).abs().max() / wanted.abs().max()
    return float(share), int((got.argmax(-1) == wanted.argmax(-1)).sum())


def run(kind: str, models: Sequence[Path], ids: torch.Tensor, *, seed: int, records: Records) -> None:
    """Write one path unless it is on record."""
    if not records.of(kind=kind, seed=seed):
        found = measure(kind, models, ids, seed=seed)
        print(json.dumps(asdict(found)), flush=True)
        records.note(**asdict(found))
