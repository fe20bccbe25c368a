"""Models to merge, made on the spot: Llama-shaped, random, of any size, never held in memory."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["DEFAULT_WORK", "SIZES", "Models", "Size", "make", "make_sparse", "write_companions"]

DEFAULT_WORK = Path(tempfile.gettempdir()) / "mergery-bench"
WEIGHT_SD = 0.02
NOISE_SD = 1e-3  # of an expert's changes: what fine-tuning does, about eight steps of bfloat16 at 0.02
CHUNK = 1 << 18  # elements at a time: they stay in the processor's cache
SHARD_BYTES = 5_000_000_000

WORDS = ("<unk>", "<s>", "</s>", "a", "merge", "of", "models")


@dataclass(frozen=True)
class Size:
    """The shape of a Llama.

    Attributes:
        hidden: width of the residual stream.
        intermediate: width of the MLP.
        layers: how many.
        heads: of the queries.
        kv_heads: of the keys and values.
        vocabulary: rows of the embedding and of the head, which are not tied.
    """

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every tensor, in the order of a checkpoint."""
        wide, narrow = self.hidden, self.hidden // self.heads * self.kv_heads
        yield "model.embed_tokens.weight", (self.vocabulary, wide)
        for layer in range(self.layers):
            for name, shape in (
                ("input_layernorm", (wide,)),
                ("self_attn.q_proj", (wide, wide)),
                ("self_attn.k_proj", (narrow, wide)),
                ("self_attn.v_proj", (narrow, wide)),
                ("self_attn.o_proj", (wide, wide)),
                ("post_attention_layernorm", (wide,)),
                ("mlp.gate_proj", (self.intermediate, wide)),
                ("mlp.up_proj", (self.intermediate, wide)),
                ("mlp.down_proj", (wide, self.intermediate)),
            ):
                yield f"model.layers.{layer}.{name}.weight", shape
        yield "model.norm.weight", (wide,)
        yield "lm_head.weight", (self.vocabulary, wide)

    @property
    def parameters(self) -> int:
        """How many numbers such a model holds."""
        return sum(int(np.prod(shape)) for _, shape in self.tensors())

    def config(self, dtype: str) -> dict[str, object]:
        """What ``config.json`` says of it."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": dtype,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": 2048,
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "vocab_size": self.vocabulary,
        }


# From 62m on, each is twice or eight times another in parameters; the larger ones grow in width, in depth
# and in vocabulary, so that single tensors grow, too.
SIZES = {
    "tiny": Size(64, 96, 2, 4, 2, 256),
    "4m": Size(256, 688, 4, 4, 2, 2000),
    "62m": Size(640, 1728, 12, 10, 2, 8000),
    "124m": Size(640, 1728, 24, 10, 2, 16000),
    "248m": Size(1280, 3456, 12, 20, 4, 16000),
    "0.5b": Size(1280, 3456, 24, 20, 4, 32000),
    "4b": Size(2560, 6912, 53, 40, 8, 64000),
    "64b": Size(8192, 22016, 92, 64, 8, 32000),
}


@dataclass(frozen=True)
class Models:
    """Directories of a base and its experts."""

    base: Path
    experts: tuple[Path, ...]


def make(
    work: Path, name: str, experts: int, *, size: Size | None = None, distinct: int | None = None
) -> Models:
    """Make a base and experts of one size in bfloat16, or find those of an earlier run.

    Args:
        work: the folder they are kept in.
        name: a key of :data:`SIZES`, or of the size that is given.
        experts: how many.
        size: the shape, where it is not one of :data:`SIZES`.
        distinct: how many of them to write; the rest are links to these, in turn (memory and amounts of
            work do not depend on what the weights are, and disks have ends).
    """
    folder = work / "models" / name
    distinct = experts if distinct is None else min(distinct, experts)
    shape = size or SIZES[name]
    base = folder / "base"
    _once(base, lambda staging: _write(staging, shape, model=0, base=None))
    paths = [folder / f"expert-{model}" for model in range(1, experts + 1)]
    for index, path in enumerate(paths[:distinct]):
        if path.is_symlink():
            path.unlink()
        _once(path, lambda staging, model=index + 1: _write(staging, shape, model=model, base=base))
    for index in range(distinct, experts):
        if not paths[index].exists():
            paths[index].symlink_to(paths[index % distinct].name)
    return Models(base, tuple(paths))


def make_sparse(work: Path, name: str, experts: int) -> Models:
    """Models of real headers and of holes: all zeros, of any size, taking no room on the disk."""
    folder = work / "sparse" / name
    paths = [folder / "base", *(folder / f"expert-{model}" for model in range(1, experts + 1))]
    for path in paths:
        _once(path, lambda staging: _write_holes(staging, SIZES[name]))
    return Models(paths[0], tuple(paths[1:]))


def write_companions(folder: Path, size: Size, dtype: str) -> None:
    """Configuration and a tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    (folder / "config.json").write_text(json.dumps(size.config(dtype), indent=2))
    words = {word: index for index, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=WORDS[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": WORDS[0]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def _once(folder: Path, write: Callable[[Path], None]) -> None:
    """Fill a folder that takes its name when it is complete."""
    if folder.exists():
        return
    staging = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    write(staging)
    staging.rename(folder)


def _shards(size: Size) -> list[list[tuple[str, tuple[int, ...]]]]:
    """The tensors of each file."""
    shards: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    room = SHARD_BYTES
    for name, shape in size.tensors():
        room -= _bytes(shape)
        if room < 0 and shards[-1]:
            shards.append([])
            room = SHARD_BYTES - _bytes(shape)
        shards[-1].append((name, shape))
    return shards


def _bytes(shape: tuple[int, ...]) -> int:
    return 2 * int(np.prod(shape))


def _files(folder: Path, size: Size) -> Iterator[tuple[Path, list[tuple[str, tuple[int, ...]]], bytes]]:
    """Name, tensors and header of every file; writes the index where there are several."""
    shards = _shards(size)
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{index:05d}-of-{len(shards):05d}.safetensors" for index in range(1, len(shards) + 1)]
        weights = {tensor: file for file, part in zip(names, shards, strict=True) for tensor, _ in part}
        total = sum(_bytes(shape) for part in shards for _, shape in part)
        index = {"metadata": {"total_size": total}, "weight_map": weights}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for file, part in zip(names, shards, strict=True):
        yield folder / file, part, _header(part)


def _header(tensors: list[tuple[str, tuple[int, ...]]]) -> bytes:
    """The head of a safetensors file: its length in 8 bytes, then JSON, padded to 8 bytes."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in tensors:
        end = start + _bytes(shape)
        entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write(folder: Path, size: Size, *, model: int, base: Path | None) -> None:
    """One model: random weights, or the base's with noise on them."""
    random = np.random.Generator(np.random.SFC64([model, size.hidden, size.layers]))
    write_companions(folder, size, "bfloat16")
    for path, tensors, header in _files(folder, size):
        with path.open("wb") as out, (base / path.name if base else Path(os.devnull)).open("rb") as source:
            out.write(header)
            source.seek(len(header))
            for _, shape in tensors:
                elements = int(np.prod(shape))
                for start in range(0, elements, CHUNK):
                    count = min(CHUNK, elements - start)
                    noise = random.standard_normal(count, dtype=np.float32)
                    if base:
                        before = np.frombuffer(source.read(2 * count), dtype=np.uint16)
                        values = _from_bfloat16(before) + NOISE_SD * noise
                    else:
                        values = WEIGHT_SD * noise + (1.0 if len(shape) == 1 else 0.0)
                    out.write(_to_bfloat16(values.astype(np.float32, copy=False)).tobytes())


def _write_holes(folder: Path, size: Size) -> None:
    write_companions(folder, size, "bfloat16")
    for path, tensors, header in _files(folder, size):
        with path.open("wb") as out:
            out.write(header)
            out.truncate(len(header) + sum(_bytes(shape) for _, shape in tensors))


def _to_bfloat16(values: np.ndarray) -> np.ndarray:
    """The upper halves of the float32 bits, rounded to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _from_bfloat16(halves: np.ndarray) -> np.ndarray:
    return (halves.astype(np.uint32) << 16).view(np.float32)
