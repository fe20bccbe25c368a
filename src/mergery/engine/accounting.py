"""Every tensor accounted for: those that only some of the models have, and those that do not fit.

Nothing is left out in silence. A tensor without partners is settled, in this order, by

1. the recipe's ``unmatched:``, by name;
2. tied weights: where a model stores an output matrix and its token embedding as one, the embedding
   stands for the matrix;
3. buffers that models compute when they are loaded: left out, unless all models have them;

and is an error otherwise. Errors are collected, so that all are said at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mergery.checkpoint.architecture import is_derived, is_output_matrix, role, tied_partner
from mergery.engine.alignment import Member
from mergery.engine.operand import Operand
from mergery.errors import CheckpointError
from mergery.recipe import Unmatched

__all__ = ["SHOWN", "Ledger", "Settled", "listed", "ties_embeddings"]

SHOWN = 10
"""How many names a message lists before it only counts."""


@dataclass(frozen=True)
class Settled:
    """What a tensor of the result is made of.

    Attributes:
        operands: one for each model; ``None`` for those that have no part in it.
        copied: whether the first of them is taken as it is.
    """

    operands: tuple[Operand | None, ...]
    copied: bool = False


class Ledger:
    """The account of one plan: what was settled how, and what is wrong.

    Args:
        rules: the recipe's ``unmatched:``.

    Attributes:
        untied: whether the result has an output matrix of its own where some model tied it.
    """

    def __init__(self, rules: Sequence[Unmatched]) -> None:
        self._rules = rules
        self._by_rule: list[list[str]] = [[] for _ in rules]
        self._dropped: list[str] = []
        self._tied: dict[tuple[str, str, str], None] = {}
        self._alone: list[str] = []
        self._misfits: list[str] = []
        self._layers: dict[str, str] = {}
        self._only_vocabularies = True
        self.untied = False

    def settle(
        self, name: str, members: Sequence[Member], operands: Sequence[Operand | None]
    ) -> Settled | None:
        """Decide about a tensor that some of the models lack.

        Args:
            name: the result's name for it.
            members: the models, in the recipe's order.
            operands: what each has under that name.

        Returns:
            What it is made of; ``None`` if it is left out, or was put down as an error.
        """
        there = any(operand is not None for operand in operands)
        for rule, names in zip(self._rules, self._by_rule, strict=True):
            if rule.fits(name) and (there or rule.action == "drop"):
                names.append(name)
                return self._by_action(rule, operands)
        completed = self._with_partners(name, members, operands)
        if completed is not None:
            return Settled(completed)
        shape = next((operand.shape for operand in operands if operand is not None), ())
        if is_derived(name, shape):
            self._dropped.append(name)
        else:
            self.alone(name, members, operands)
        return None

    def alone(self, name: str, members: Sequence[Member], operands: Sequence[Operand | None]) -> None:
        """Put down a tensor that nothing settles."""
        missing = [member.label for member, operand in zip(members, operands, strict=True) if operand is None]
        self._alone.append(f"{listed(dict.fromkeys(missing))}: it has no tensor {name}")
        for member in members:
            if member.label not in self._layers:
                depths = (f"{stack}0 to {stack}{member.depth(stack) - 1}" for stack in member.stacks)
                self._layers[member.label] = ", ".join(depths) or "no layers"

    def unclaimed(self, name: str, operands: Sequence[Operand | None]) -> Settled | None:
        """Decide about a tensor that belongs to none of the recipe's modules: only ``unmatched:`` can."""
        for rule, names in zip(self._rules, self._by_rule, strict=True):
            if rule.fits(name) and rule.action != "merge":
                names.append(name)
                return self._by_action(rule, operands)
        self._alone.append(f"{name}: it belongs to none of the recipe's modules")
        return None

    def misfit(self, name: str, shapes: Iterable[tuple[str, tuple[int, ...]]]) -> None:
        """Put down a tensor whose shapes differ, with the models that have them."""
        first, *others = shapes
        other = next(entry for entry in others if entry[1] != first[1])
        in_rows = first[1][1:] == other[1][1:] and len(first[1]) == len(other[1])
        self._only_vocabularies &= in_rows and role(name) in ("embedding", "head")
        self._misfits.append(f"{name}: shape {list(first[1])} in {first[0]}, {list(other[1])} in {other[0]}")

    def refuse(self, text: str) -> None:
        """Put down a tensor that the method cannot merge."""
        self._alone.append(text)

    @property
    def notes(self) -> Iterator[str]:
        """What was settled, for the user."""
        words = {"copy": "copied from the first model that has them", "drop": "left out", "merge": "merged"}
        for index, (rule, names) in enumerate(zip(self._rules, self._by_rule, strict=True)):
            what = f"unmatched[{index}] ({rule.filter})"
            if names:
                yield f"{what}: {words[rule.action]}: {listed(names)}"
            else:
                yield f"{what}: no tensor needs it"
        for name, partner, label in self._tied:
            end = "; in the result the two are not tied" if self.untied and is_output_matrix(name) else ""
            yield f"{name}: {label} ties it to {partner}, which stands for it{end}"
        if self._dropped:
            yield (
                "left out, since models compute them when they are loaded, and not all of these stored them: "
                f"{listed(self._dropped)}"
            )

    def close(self, heads: str) -> None:
        """Raise what was put down.

        Args:
            heads: how the models' attention heads differ, if they do.

        Raises:
            CheckpointError: naming up to ten tensors, and counting the others.
        """
        if self._misfits:
            fix = "merge models of one architecture, size and vocabulary"
            if self._only_vocabularies:
                fix = "say which vocabulary the result shall have: tokenizer_source: union, or base"
            raise CheckpointError(listed(self._misfits, "; ") + (f" ({heads})" if heads else ""), fix=fix)
        if self._alone:
            layers = "; ".join(f"{label} has {depths}" for label, depths in self._layers.items())
            differ = len(dict.fromkeys(self._layers.values())) > 1
            raise CheckpointError(
                listed(self._alone, "; ") + (f" ({layers})" if differ else ""),
                fix="merge models of one architecture, saved the same way; or say under unmatched: what to "
                "do with each of them (copy, drop or merge)",
            )

    def _by_action(self, rule: Unmatched, operands: Sequence[Operand | None]) -> Settled | None:
        match rule.action:
            case "drop":
                return None
            case "copy":
                return Settled(tuple(operands), copied=True)
            case "merge":
                return Settled(tuple(operands))

    def _with_partners(
        self, name: str, members: Sequence[Member], operands: Sequence[Operand | None]
    ) -> tuple[Operand, ...] | None:
        """The operands with tied partners in the gaps, if every model that lacks the tensor ties it."""
        found: list[Operand] = []
        tied: list[tuple[str, str, str]] = []
        for member, operand in zip(members, operands, strict=True):
            if operand is None:
                partner = tied_partner(name, member.tensors) if ties_embeddings(member.config) else None
                if partner is None:
                    return None
                operand = member.tensors[partner]
                tied.append((name, partner, member.label))
            found.append(operand)
        if is_output_matrix(name) and any(member.config.get("is_encoder_decoder") for member in members):
            if any(not ties_embeddings(member.config) for member in members):
                return None  # T5 scales the logits of tied models, so the embedding alone is not the matrix
        elif is_output_matrix(name):
            self.untied = True
        self._tied |= dict.fromkeys(tied)
        return tuple(found)


def ties_embeddings(config: object) -> bool:
    """Whether a model without an output matrix uses its token embedding in its place."""
    if not isinstance(config, dict):
        return True
    inner = config.get("text_config")
    inner = inner if isinstance(inner, dict) else {}
    return bool(config.get("tie_word_embeddings", inner.get("tie_word_embeddings", True)))


def listed(names: Iterable[str], separator: str = ", ") -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = [f"and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return separator.join([*names[:SHOWN], *more])
