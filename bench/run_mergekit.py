"""mergekit 0.1.4, run under its own interpreter.

    run_mergekit.py RECIPE OUT [OPTION ...]    what mergekit-yaml does
    run_mergekit.py --plan RECIPE              seconds of planning alone, as JSON
    run_mergekit.py --jobs                     many recipes: one JSON object a line in, one a line out

As released, with the pydantic that it pins, it stops at "class not fully defined" (its issue 681): names
that its models' annotations use are imported for type checkers only. They are completed here, in 0.03 s. With
``--jobs``, masks are drawn by Mergery's generator, so that outputs of random methods can be compared, and a
job can ask for some sums in float64. Nothing else is changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import sys
import time

import numpy as np
import pydantic
import torch
import transformers
import yaml
from mergekit import merge_methods
from mergekit.config import MergeConfiguration
from mergekit.merge_methods import arcee_fusion, generalized_task_arithmetic, sce
from mergekit.options import MergeOptions


def descendants(parent: type) -> list[type]:
    """All subclasses, at any depth."""
    return [found for child in parent.__subclasses__() for found in (child, *descendants(child))]


MISSING = {
    "torch": torch,
    "transformers": transformers,
    "PreTrainedTokenizerBase": transformers.PreTrainedTokenizerBase,
    "PretrainedConfig": transformers.PretrainedConfig,
}


def complete() -> None:
    """Complete the models that pydantic could not."""
    for model in descendants(pydantic.BaseModel):
        if model.__module__.startswith("mergekit"):
            with contextlib.suppress(pydantic.errors.PydanticUndefinedAnnotation):
                names = {**vars(sys.modules[model.__module__]), **MISSING}
                model.model_rebuild(force=True, _types_namespace=names)


class Draws:
    """Stands in for ``torch.bernoulli``: numbers by seed, tensor, model and element.

    SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 17), whose counter starts at a hash of the place;
    the same numbers as Mergery's, written down a second time. They are compared with the probabilities in
    float64: rounded to float32, as they come, they turn around a draw in some ten million.
    """

    def __init__(self) -> None:
        self.seed = 0
        self._tensor = ""
        self._model = -1
        self._density = 1.0
        self._epsilon = 0.0

    def install(self) -> None:
        """Follow which tensor and which model is sparsified, and draw for it."""
        task = generalized_task_arithmetic.GTATask
        execute, sparsify = task.execute, generalized_task_arithmetic.sparsify

        def executed(this: object, *arguments: object, **keywords: object) -> object:
            self._tensor, self._model = this.weight_info.name, -1
            return execute(this, *arguments, **keywords)

        def sparsified(tensor: torch.Tensor, density: float, **keywords: object) -> torch.Tensor:
            self._model += 1
            self._density, self._epsilon = density, keywords.get("epsilon", 0.0)
            return sparsify(tensor, density=density, **keywords)

        task.execute = executed
        generalized_task_arithmetic.sparsify = sparsified
        torch.bernoulli = self.bernoulli

    def bernoulli(self, probabilities: torch.Tensor) -> torch.Tensor:
        """1 where the element's number lies below its probability."""
        numbers = torch.from_numpy(self._uniform(probabilities.numel())).reshape(probabilities.shape)
        return (numbers < self._unrounded(probabilities)).to(probabilities.dtype)

    def _unrounded(self, probabilities: torch.Tensor) -> torch.Tensor | float:
        """The density, or DELLA's probabilities: evenly spaced by rank around it."""
        if not self._epsilon:
            return self._density
        low = self._density - self._epsilon
        step = 2.0 * self._epsilon / (probabilities.shape[1] - 1)
        return low + step * ((probabilities.double() - low) / step).round()

    def _uniform(self, elements: int) -> np.ndarray:
        place = f"{self.seed}\0{self._tensor}\0{self._model}".encode()
        start = np.uint64(int.from_bytes(hashlib.sha256(place).digest()[:8], "little"))
        state = np.arange(1, elements + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
        return (state >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


class WideSums:
    """Lets ``arcee_fusion`` and ``sce`` choose by sums in float64, while it is switched on.

    Which changes reach a threshold depends on how the sums that are compared with it are rounded: the
    divergences of the one, differences of nearly equal numbers, and the variances of the other.
    """

    def __init__(self) -> None:
        self.on = False

    def install(self) -> None:
        """Stand between the methods and their tensors."""
        task = arcee_fusion.ArceeFusionMergeTask
        narrow = task._compute_importance

        def importance(this: object, params: torch.Tensor, base_params: torch.Tensor) -> torch.Tensor:
            if not self.on:
                return narrow(this, params, base_params)
            return narrow(this, params.double(), base_params.double())

        task._compute_importance = importance
        choose = sce.sce_mask

        def chosen(changes: torch.Tensor, density: float, dtype: torch.dtype | None = None) -> torch.Tensor:
            return choose(changes.double() if self.on else changes, density, dtype)

        sce.sce_mask = chosen


def load(recipe: str) -> MergeConfiguration:
    """The recipe in mergekit's own classes."""
    with open(recipe, encoding="utf-8") as file:  # noqa: PTH123
        return MergeConfiguration.model_validate(yaml.safe_load(file))


def jobs() -> None:
    """Merge what is asked for until there is nothing more."""
    from mergekit.merge import run_merge

    with contextlib.suppress(ImportError):  # ram and ramplus_tl came after the release: see peers.sh
        importlib.import_module("mergekit.merge_methods.ram")

    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    draws, wide = Draws(), WideSums()
    draws.install()
    wide.install()
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    print(json.dumps({"methods": sorted(merge_methods.REGISTERED_MERGE_METHODS)}), file=replies, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        draws.seed, wide.on = job["seed"], job["wide"]
        error = None
        try:
            run_merge(load(job["recipe"]), job["out"], options=options)
        except Exception as problem:  # whatever it is, it is said, and the next recipe has its turn
            error = f"{type(problem).__name__}: {problem}".partition("\n")[0]
        print(json.dumps({"error": error}), file=replies, flush=True)


def plan(recipe: str) -> None:
    """Plan a merge, and order its tasks, without running any."""
    from mergekit.architecture import get_architecture_info
    from mergekit.graph import Executor
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import _model_out_config
    from mergekit.plan import MergePlanner

    begin = time.perf_counter()
    options = MergeOptions(quiet=True)
    configuration = load(recipe)
    architecture = get_architecture_info(configuration, options)
    LoaderCache().setup(options=options)
    planner = MergePlanner(
        configuration,
        architecture,
        options=options,
        out_model_config=_model_out_config(configuration, architecture),
    )
    executor = Executor(targets=planner.plan_to_disk(out_path=os.devnull))
    seconds = time.perf_counter() - begin
    print(json.dumps({"seconds": seconds, "tasks": len(executor.schedule.tasks)}))


complete()
if sys.argv[1:] == ["--jobs"]:
    jobs()
elif sys.argv[1:2] == ["--plan"]:
    plan(sys.argv[2])
else:
    from mergekit.scripts.run_yaml import main

    main()
