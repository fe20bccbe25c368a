"""What an evaluator is: a model in, one number per item and named metrics out.

An evaluator prepares its items once (:meth:`Evaluator.prepare`) and then scores any number of models on
them (:meth:`Scorer.score`): a search scores hundreds of candidates that share tokenizer and items.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mergery.checkpoint import Checkpoint
from mergery.engine.stock import load_stock
from mergery.errors import DataError
from mergery.evaluate.items import Items, load_items
from mergery.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "Direction",
    "Evaluator",
    "Metric",
    "Scorer",
    "Scores",
    "SoftScorer",
    "evaluate",
    "evaluator_names",
    "get_evaluator",
    "register_evaluator",
]

Direction: TypeAlias = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class Metric:
    """One named number.

    Attributes:
        name: what it is (``exact_match``).
        value: NaN if the model gave no finite answer.
        direction: which way is better.
    """

    name: str
    value: float
    direction: Direction


@dataclass(frozen=True, eq=False)
class Scores:
    """What one model scored.

    Attributes:
        outcomes: ``(items,)`` float32 in item order, read-only; NaN where the model gave no finite answer.
        hashes: the items' hashes, in the same order.
        metrics: named numbers, the one that counts first.
        smooth: ``(items,)`` float32 a smooth companion of the outcomes, higher is better, where the
            evaluator gets one in the same pass (exact_match: a root of the answers' probabilities);
            else ``None``. It tells apart models that answer the same items right.
    """

    outcomes: NDArray[np.float32]
    hashes: tuple[str, ...]
    metrics: tuple[Metric, ...]
    smooth: NDArray[np.float32] | None = None

    @property
    def value(self) -> float:
        """The number that counts."""
        return self.metrics[0].value

    @classmethod
    def mean_of(
        cls, outcomes: NDArray[np.float32], hashes: tuple[str, ...], *, name: str, direction: Direction
    ) -> Scores:
        """Scores whose one metric is the mean over items, summed in float64."""
        kept = np.array(outcomes, dtype=np.float32)
        kept.flags.writeable = False
        return cls(kept, hashes, (Metric(name, float(kept.mean(dtype=np.float64)), direction),))


class Scorer(Protocol):
    """Scores models on items that are prepared."""

    def score(self, model: PreTrainedModel) -> Scores:
        """Score one model, which stays as it is."""
        ...


@runtime_checkable
class SoftScorer(Scorer, Protocol):
    """A scorer whose smooth companion has a gradient."""

    def backward(self, model: PreTrainedModel, weights: NDArray[np.float64]) -> float:
        """Add the gradient of ``- sum_i weights_i smooth_i`` to the ``grad`` of the model's parameters.

        Args:
            model: whose parameters require gradients.
            weights: ``(items,)`` what each item counts.

        Returns:
            That sum.
        """
        ...


class Evaluator(Protocol):
    """A way to score models. Stateless; the registry holds one instance of each."""

    @property
    def name(self) -> str:
        """As search files write it."""
        ...

    @property
    def direction(self) -> Direction:
        """Which way its first metric is better."""
        ...

    @property
    def proportion(self) -> bool:
        """Whether every outcome is 0 or 1."""
        ...

    @property
    def soft(self) -> bool:
        """Whether its scorers are :class:`SoftScorer`."""
        ...

    def prepare(
        self, tokenizer: PreTrainedTokenizerBase, items: Items, *, context: int | None = None
    ) -> Scorer:
        """Get items ready for models with this tokenizer.

        Args:
            tokenizer: of the models to come.
            items: what to ask.
            context: the longest text that the models take, in tokens.

        Raises:
            DataError: if an item cannot be asked of such models.
        """
        ...

    def summarise(self, outcomes: NDArray[np.float32], hashes: tuple[str, ...]) -> Scores:
        """The scores that these outcomes make; equals what :meth:`Scorer.score` returned with them."""
        ...


_EVALUATORS: Registry[Evaluator] = Registry(
    "evaluator",
    "mergery.evaluators",
    ("mergery.evaluate.exact_match", "mergery.evaluate.likelihood"),
    DataError,
)


def register_evaluator(evaluator: Evaluator) -> Evaluator:
    """Make an evaluator known under its name."""
    _EVALUATORS.add(evaluator.name, evaluator)
    return evaluator


def get_evaluator(name: str, *, where: str = "evaluator") -> Evaluator:
    """The evaluator registered under ``name``; a DataError naming the near miss if there is none."""
    return _EVALUATORS.get(name, where=where)


def evaluator_names() -> tuple[str, ...]:
    """All registered evaluators."""
    return tuple(_EVALUATORS)


def evaluate(
    model: PreTrainedModel | Path | str,
    items: Items | Path | str,
    *,
    evaluator: str = "exact_match",
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str = "cpu",
) -> Scores:
    """Score one model on task items.

    Args:
        model: a model in memory, with its ``tokenizer``; or a model directory or Hugging Face id, which stock
            transformers loads in float32.
        items: items, or the path of their JSONL file.
        evaluator: a registered evaluator's name.
        tokenizer: of a model in memory.
        device: where to run a model directory (``cpu``, ``cuda``).

    Raises:
        DataError: if the items cannot be used.
        CheckpointError: if the model directory cannot be loaded.
        DeviceError: if there is no such device.
    """
    chosen = get_evaluator(evaluator)
    asked = items if isinstance(items, Items) else load_items(items)
    if isinstance(model, Path | str):
        model, own = load_stock(Checkpoint.open(model).directory, device)
        tokenizer = tokenizer or own
    if tokenizer is None:
        raise ValueError("a model in memory needs its tokenizer")
    return chosen.prepare(tokenizer, asked, context=context_of(model)).score(model)


def context_of(model: PreTrainedModel) -> int | None:
    """The longest text the model takes, in tokens, where its configuration says."""
    longest = getattr(model.config, "max_position_embeddings", None)
    return int(longest) if longest else None
