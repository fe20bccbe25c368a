"""Whether a chat template is Jinja as transformers understands it."""

from __future__ import annotations

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from mergery.errors import RecipeError

__all__ = ["check_syntax"]


class _Generation(Extension):
    """transformers' ``{% generation %}``, which marks what the assistant says; only to be parsed."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def check_syntax(template: str) -> None:
    """Parse a chat template.

    Raises:
        RecipeError: with the line, if it is no valid Jinja.
    """
    try:
        Environment(extensions=["jinja2.ext.loopcontrols", _Generation]).parse(template)
    except TemplateSyntaxError as problem:
        raise RecipeError(
            f"chat_template: line {problem.lineno}: {problem.message}", fix="mend the Jinja text"
        ) from problem
