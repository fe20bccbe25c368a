"""The same recipes through mergekit 0.1.4 and through Mergery, in float32: how far apart are the weights?"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from safetensors.numpy import load_file, save_file

from bench import peer, timing
from bench.compare import tensors
from bench.generated import LAYERS, METHODS, MODELS, Made, generate
from bench.models import Size, write_companions
from bench.page import RESULTS, table, write
from mergery import Recipe, merge
from mergery.errors import MergeryError

SIZE = Size(128, 192, LAYERS, 4, 2, 256)
DEEP = Size(32, 48, 40, 4, 2, 64)
AGREED = 1e-5
COMPAT = {"compat": "mergekit-0.1"}

DECIDING_SUMS = ("arcee_fusion", "sce")
"""Methods of mergekit where the rounding of float32 sums decides which changes are taken."""

AGREEMENTS = {
    "as it is": "agree as they are",
    "with compat": "only with compat",
    "in float64": "only with its sums in float64",
}
FAILURES = {"differs": "differ", "not merged": "not merged", "mergekit fails": "mergekit fails"}
BY_METHOD = (
    *("method", "recipes", *AGREEMENTS.values(), *FAILURES.values()),
    *("largest as they are", "largest of all that agree"),
)
IN_FULL = ("recipe", "what is in it", "as it is", "beyond", "with compat", "beyond", "in float64", "beyond")


@dataclass(frozen=True)
class Difference:
    """How far one merge is from the other.

    Attributes:
        largest: the largest difference of any weight, relative to the largest change of its tensor from the
            base, or to its largest weight.
        beyond: the share of weights that differ by more than :data:`AGREED`.
    """

    largest: float
    beyond: float

    @property
    def agreed(self) -> bool:
        """Whether they are the same up to rounding."""
        return self.largest <= AGREED


@dataclass(frozen=True)
class Outcome:
    """What became of one recipe.

    Attributes:
        made: the recipe.
        peer: mergekit's error, if it failed.
        plain: the difference of the recipe as it is; a text where Mergery did not merge it.
        compat: the same with ``compat: mergekit-0.1``.
        wide: the same where mergekit, too, sums in float64 what decides; only for :data:`DECIDING_SUMS`.
    """

    made: Made
    peer: str | None = None
    plain: Difference | str = ""
    compat: Difference | str = ""
    wide: Difference | str = ""

    @property
    def verdict(self) -> str:
        """A word for it."""
        if self.peer:
            return "mergekit fails"
        if isinstance(self.plain, Difference) and self.plain.agreed:
            return "as it is"
        for found, word in ((self.compat, "with compat"), (self.wide, "in float64")):
            if isinstance(found, Difference) and found.agreed:
                return word
        merged = any(isinstance(found, Difference) for found in (self.plain, self.compat))
        return "differs" if merged else "not merged"


def main(options: Sequence[str] = ()) -> None:
    """Compare every recipe, and write the page."""
    arguments = parse(options)
    peer.ensure()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder / "models", SIZE, ("base", *MODELS))
        make_models(folder / "deep", DEEP, ("base", *MODELS[:3]))
        named = examples(folder / "deep")
        drawn = generate(arguments.recipes, arguments.seed, folder / "models")
        wanted = [made for made in [*named, *drawn] if not arguments.only or made.name in arguments.only]
        with peer.Peer(folder / "mergekit.log") as other:
            outcomes = [compare(made, other, folder) for made in progress(wanted)]
        if arguments.only:
            for outcome in outcomes:
                print(yaml.safe_dump(outcome.made.data, sort_keys=False))
                print(
                    outcome.made.name,
                    outcome.verdict,
                    outcome.peer,
                    outcome.plain,
                    outcome.compat,
                    outcome.wide,
                )
            return
    write_page(outcomes[: len(named)], outcomes[len(named) :], arguments, options)


def parse(options: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench agreement", description=__doc__)
    parser.add_argument("--recipes", type=int, default=200, help="how many are drawn")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="print these, and write no page")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the page")
    return parser.parse_args(options)


def progress(wanted: Sequence[Made]) -> Iterator[Made]:
    """Say how far it is."""
    for number, made in enumerate(wanted, 1):
        print(f"\r{number}/{len(wanted)} {made.name:24}", end="", flush=True)
        yield made
    print()


def make_models(folder: Path, size: Size, names: Sequence[str]) -> None:
    """A base and experts around it in float32: half of the changes of each are the same in all.

    The magnitudes of a tensor's changes are all different: no trimming depends on the order of equal ones.
    """
    random = np.random.default_rng(0)
    weights = {name: {} for name in names}
    for tensor, shape in size.tensors():
        scale = 0.3 if len(shape) == 1 else 0.05
        base = ((len(shape) == 1) + scale * random.standard_normal(shape)).astype(np.float32)
        shared = random.standard_normal(shape)
        for name in names:
            values = base
            if name != names[0]:
                values = _distinct(base, 0.5 * scale, shared, random)
            weights[name][tensor] = values
    for name in names:
        (folder / name).mkdir(parents=True)
        write_companions(folder / name, size, "float32")
        save_file(weights[name], folder / name / "model.safetensors", metadata={"format": "pt"})


def _distinct(base: np.ndarray, scale: float, shared: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The base with changes on it, no two of the same magnitude."""
    values = (base + scale * (shared + random.standard_normal(base.shape)) / np.sqrt(2)).astype(np.float32)
    while True:
        changes = np.abs(values - base).ravel()
        _, first = np.unique(changes, return_index=True)
        again = np.setdiff1d(np.arange(changes.size), first)
        if not again.size:
            return values
        flat = values.reshape(-1)
        flat[again] = base.reshape(-1)[again] + scale * random.standard_normal(again.size)


def examples(models: Path) -> list[Made]:
    """Recipes of the shapes that mergekit's ``examples/`` have, on models of as many layers."""
    path = {name: str(models / name) for name in ("base", "one", "two", "three")}
    by_part = [
        {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
        {"filter": "mlp", "value": [1, 0.5, 0.7, 0.3, 0]},
        {"value": 0.5},
    ]
    whole = [{"model": path[name], "layer_range": [0, DEEP.layers]} for name in ("one", "two")]
    half = {"weight": 0.5, "density": 0.5}
    shares = (
        {"weight": 1.0, "density": [1, 0.7, 0.1]},
        {"weight": [0, 0.3, 0.7, 1], "density": 0.5},
        {"weight": [{"filter": "mlp", "value": 0.5}, {"value": 0}], "density": 0.33},
    )
    based = {"base_model": path["base"]}

    def listed(*own: object) -> dict[str, object]:
        names = ("one", "two", "three")
        return {"models": [{"model": path[n], "parameters": p} for n, p in zip(names, own, strict=False)]}

    recipes: dict[str, dict[str, object]] = {
        "linear": {"merge_method": "linear", **listed({"weight": 1.0}, {"weight": 0.3}, {"weight": 0.5})},
        "gradient-slerp": {
            "merge_method": "slerp",
            "slices": [{"sources": whole}],
            "base_model": path["one"],
            "parameters": {"t": by_part},
        },
        "ties": {
            "merge_method": "ties",
            **listed(*shares),
            **based,
            "parameters": {"normalize": True, "int8_mask": True},
        },
        "bio-merge": {
            "merge_method": "ties",
            **listed(half, half),
            **based,
            "parameters": {"normalize": False, "int8_mask": True},
        },
        "orcamini-platy-44layer": {
            "merge_method": "passthrough",
            "slices": [
                {"sources": [{"model": path["one"], "layer_range": [0, 24]}]},
                {"sources": [{"model": path["two"], "layer_range": [20, 40]}]},
            ],
        },
        "arcee_fusion": {
            "merge_method": "arcee_fusion",
            "models": [{"model": path["base"]}, {"model": path["one"]}],
            **based,
        },
    }
    return [Made(name, data | {"dtype": "float32"}, ()) for name, data in recipes.items()]


def compare(made: Made, other: peer.Peer, folder: Path) -> Outcome:
    """Merge one recipe with both tools."""
    if made.method not in other.methods:
        return Outcome(made, peer=f"this mergekit has no {made.method}")
    recipe, theirs = folder / "recipe.yml", folder / "theirs"
    recipe.write_text(yaml.safe_dump(made.data, sort_keys=False))
    timing.remove(theirs)
    failure = other.merge(recipe, theirs, made.seed)
    if failure:
        return Outcome(made, peer=failure)
    base = Path(str(made.data["base_model"])) if "base_model" in made.data and "models" in made.data else None
    ours = folder / "ours"
    plain = _merged(made.data, ours, theirs, base)
    compat = _merged(made.data | COMPAT, ours, theirs, base)
    wide: Difference | str = ""
    if made.method in DECIDING_SUMS:
        timing.remove(theirs)
        other.merge(recipe, theirs, made.seed, wide=True)
        wide = _merged(made.data | COMPAT, ours, theirs, base)
    return Outcome(made, None, plain, compat, wide)


def _merged(data: dict[str, object], ours: Path, theirs: Path, base: Path | None) -> Difference | str:
    timing.remove(ours)
    try:
        merge(Recipe.from_dict(data), ours)
    except MergeryError as problem:
        return str(problem).partition("\n")[0]
    except Exception as problem:  # a defect of ours is a finding, too
        return f"{type(problem).__name__}: {problem}"
    return difference(ours, theirs, base)


def difference(ours: Path, theirs: Path, base: Path | None) -> Difference | str:
    """Compare tensor by tensor."""
    mine, reference = tensors(ours), tensors(theirs)
    if mine.keys() != reference.keys():
        names = sorted(mine.keys() ^ reference.keys())
        return f"{len(names)} tensors are in one output only, {names[0]} among them"
    before = load_file(base / "model.safetensors") if base else {}
    largest, beyond, elements = 0.0, 0, 0
    for name, tensor in reference.items():
        if mine[name].shape != tensor.shape:
            return f"{name}: {mine[name].shape} and {tensor.shape}"
        one, other = mine[name].read().astype(np.float64), tensor.read().astype(np.float64)
        scale = float(np.abs(other).max())
        if name in before:
            change = float(np.abs(other - before[name].ravel()).max())
            scale = change if change > 0.01 * scale else scale
        gap = np.abs(one - other) / (scale or 1.0)
        largest = max(largest, float(gap.max()))
        beyond += int((gap > AGREED).sum())
        elements += gap.size
    return Difference(largest, beyond / elements)


def write_page(
    named: Sequence[Outcome], drawn: Sequence[Outcome], arguments: argparse.Namespace, options: Sequence[str]
) -> None:
    """The tables."""
    everything = [*named, *drawn]
    verdicts = [outcome.verdict for outcome in everything]
    agreed = ", ".join(f"{verdicts.count(word)} {word}" for word in AGREEMENTS if word in verdicts)
    count = sum(word in AGREEMENTS for word in verdicts)
    others = [outcome for outcome in everything if outcome.verdict != "as it is"]
    lines = [
        "The same float32 models and recipes through mergekit 0.1.4 and Mergery; the largest",
        "difference of any weight, relative to the largest change of its tensor from the base (to its",
        f"largest weight, where there is no base or hardly a change). Target: {AGREED:g}. Random masks",
        "are the same in both: mergekit is made to draw from Mergery's generator. `ram` and",
        "`ramplus_tl` are in no release of mergekit yet: its file of them at commit a6e4028. Where",
        "Mergery departs on purpose ([departures](../../docs/departures.md)), `compat: mergekit-0.1`",
        "in the recipe gives mergekit's result. In `arcee_fusion` (and once in a million elements in",
        "`sce`) the rounding of mergekit's float32 sums decides which changes are taken; these two are",
        "compared also with mergekit taking these sums in float64, and random masks with probabilities",
        "that are not rounded to float32.",
        "",
        f"**{count} of {len(everything)} recipes agree**: {agreed}.",
        "",
        "## The shapes of mergekit's examples",
        "",
        *table(("example", "as it is", "with compat", "with sums in float64"), map(_example, named)),
        "",
        f"## {len(drawn)} generated recipes, by method",
        "",
        *table(
            BY_METHOD,
            (_of_method(name, [o for o in drawn if o.made.method == name]) for name in METHODS),
        ),
        "",
        "## Recipes that do not agree as they are",
        "",
        f"Recipes can be seen with `--only NAME` (drawn with seed {arguments.seed}). Beyond: the share",
        "of weights beyond the target.",
        "",
        *table(IN_FULL, map(_in_full, others)),
    ]
    write("agreement", "Agreement with mergekit", lines, options=options, folder=arguments.results)


def _example(outcome: Outcome) -> tuple[object, ...]:
    if outcome.peer:
        return outcome.made.name, f"mergekit: {outcome.peer}", "", ""
    return outcome.made.name, _cell(outcome.plain), _cell(outcome.compat), _cell(outcome.wide)


def _cell(found: Difference | str) -> str:
    return f"{found.largest:.1e}" if isinstance(found, Difference) else found


def _of_method(name: str, outcomes: Sequence[Outcome]) -> tuple[object, ...]:
    verdicts = [outcome.verdict for outcome in outcomes]
    plain = [o.plain.largest for o in outcomes if isinstance(o.plain, Difference) and o.plain.agreed]
    best = [
        min(found.largest for found in (o.plain, o.compat, o.wide) if isinstance(found, Difference))
        for o in outcomes
        if o.verdict in AGREEMENTS
    ]
    return (
        name,
        len(outcomes),
        *(verdicts.count(word) or "" for word in (*AGREEMENTS, *FAILURES)),
        *(f"{max(values):.1e}" if values else "–" for values in (plain, best)),
    )


def _in_full(outcome: Outcome) -> tuple[object, ...]:
    traits = ", ".join(outcome.made.traits)
    if outcome.peer:
        return outcome.made.name, traits, f"mergekit: {outcome.peer}", *[""] * 5
    cells = []
    for found in (outcome.plain, outcome.compat, outcome.wide):
        cells += [_cell(found), f"{found.beyond:.1e}" if isinstance(found, Difference) else ""]
    return outcome.made.name, traits, *cells
