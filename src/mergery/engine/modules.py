"""Which tensors a recipe's ``modules:`` speak of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from mergery.checkpoint.architecture import EXCEPTIONS, MODULES, module_of, role
from mergery.errors import RecipeError, near_miss

__all__ = ["assigned"]

_TEXT = "text_decoder"
_EVERYTHING = "default"
_ALIASES: dict[str, str] = EXCEPTIONS["module_aliases"]

_Claim: TypeAlias = Callable[[str], int]
"""How strongly a module claims a tensor; 0 for not at all."""


def assigned(modules: Sequence[str], names: Iterable[str]) -> dict[str, str]:
    """The module of each tensor.

    A module is known by its part in models of several parts (``text_decoder``, ``vision_tower``,
    ``multi_modal_projector``, ``audio_tower``), or its name is a beginning of tensor names, whether something
    stands before it or not: ``encoder`` is ``encoder.block.…`` and ``model.encoder.layers.…``. Where several
    claim a tensor, the longest name has it. A head that none claims belongs to the ``decoder``.

    Args:
        modules: their names, as the recipe has them.
        names: all tensors of all models.

    Returns:
        Tensor name to module name; tensors that no module claims are left out.

    Raises:
        RecipeError: if a module fits no tensor, or could mean several parts.
    """
    names = list(names)
    claims = {module: _claim(module, names) for module in modules}
    found: dict[str, str] = {}
    for name in names:
        strength = {module: claim(name) for module, claim in claims.items()}
        best = max(strength, key=lambda module: strength[module])
        if strength[best]:
            found[name] = best
        elif "decoder" in claims and role(name) == "head":
            found[name] = "decoder"
    for module in modules:
        if module not in found.values():
            raise _unknown(module, names)
    return found


def _claim(module: str, names: Sequence[str]) -> _Claim:
    if module in MODULES or module == _TEXT:
        return lambda name: int(module_of(name) == module)
    beginnings = dict.fromkeys(before for name in names if (before := _before(module, name)) is not None)
    if beginnings:
        shortest = min(map(_length, beginnings))
        nearest = [before for before in beginnings if _length(before) == shortest]
        if len(nearest) > 1:
            shown = " and ".join(f"{before}{module}" for before in nearest)
            raise RecipeError(
                f"modules.{module}: it could mean {shown}", fix="write the whole beginning of the names"
            )
        whole = f"{nearest[0]}{module}."
        return lambda name: 1 + _length(whole) if f"{name}.".startswith(whole) else 0
    if module in _ALIASES:
        return _claim(_ALIASES[module], names)
    if module == _EVERYTHING:
        return lambda _: 1
    raise _unknown(module, names)


def _before(module: str, name: str) -> str | None:
    """What stands before the module in a tensor's name; ``None`` if it is not in it."""
    place = f".{name}.".find(f".{module}.")
    return None if place < 0 else name[:place]


def _length(beginning: str) -> int:
    return beginning.count(".")


def _unknown(module: str, names: Sequence[str]) -> RecipeError:
    parts = [*(module_of(name) for name in names), *(name.partition(".")[0] for name in names)]
    return RecipeError(
        f"modules.{module}: no tensor of the models belongs to it",
        fix=near_miss(module, dict.fromkeys(parts)),
    )
