"""References to models, as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergery.errors import RecipeError

__all__ = ["ModelRef"]


@dataclass(frozen=True)
class ModelRef:
    """``org/name@revision+adapter@revision`` or a path, parsed.

    Attributes:
        path: a directory, or a Hugging Face model id.
        revision: branch, tag or commit of the model.
        adapter: a PEFT adapter on top of it.
    """

    path: str
    revision: str | None = None
    adapter: ModelRef | None = None

    @classmethod
    def parse(cls, data: object, *, where: str = "model") -> ModelRef:
        """Read a reference from its string, or from mergekit's mapping form.

        A path that holds ``+`` or ``@`` itself is written as ``{model: {path: …}}``.
        """
        match data:
            case ModelRef():
                return data
            case str():
                return cls._parse_text(data, where)
            case {"model": model, **rest} if not rest.keys() - {"lora", "override_architecture"}:
                inner = cls._parse_part(model, f"{where}.model")
                adapter = rest.get("lora")
                if adapter is None:
                    return inner
                return cls(inner.path, inner.revision, cls._parse_part(adapter, f"{where}.lora"))
            case {"path": _}:
                return cls._parse_part(data, where)
        raise RecipeError(
            f"{where}: expected a path or a model id, got {data!r}", fix="write ./directory or org/name"
        )

    def __str__(self) -> str:
        """The reference in one line; what :meth:`parse` reads."""
        text = self.path + (f"@{self.revision}" if self.revision else "")
        return f"{text}+{self.adapter}" if self.adapter else text

    def to_data(self) -> str | dict[str, object]:
        """What YAML holds: the string, or the mapping where the path has a ``+`` or ``@`` of its own."""
        if not any(mark in self.path for mark in "+@"):
            return str(self)
        part: dict[str, object] = {"path": self.path}
        if self.revision:
            part["revision"] = self.revision
        return {"model": part} | ({"lora": self.adapter.to_data()} if self.adapter else {})

    @classmethod
    def _parse_part(cls, data: object, where: str) -> ModelRef:
        if isinstance(data, Mapping) and isinstance(data.get("path"), str):
            revision = data.get("revision")
            return cls(data["path"], None if revision is None else str(revision))
        if isinstance(data, str):
            return cls._parse_text(data, where)
        raise RecipeError(f"{where}: expected a path or a model id, got {data!r}", fix="write path: org/name")

    @classmethod
    def _parse_text(cls, text: str, where: str) -> ModelRef:
        parts = [part.split("@") for part in text.split("+")]
        if len(parts) > 2 or any(len(part) > 2 or not all(part) for part in parts):
            raise RecipeError(
                f"{where}: {text!r} is not model@revision+adapter",
                fix="write a path that has + or @ in it as {model: {path: ...}}",
            )
        refs = [cls(part[0], part[1] if len(part) == 2 else None) for part in parts]
        return cls(refs[0].path, refs[0].revision, refs[1]) if len(refs) == 2 else refs[0]
