"""The template of a candidate: its texts, and which variables they need. Pure.

Templates are Jinja's, in its sandbox: their text comes from a pull request.
"""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import StrictUndefined, TemplateSyntaxError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

TemplateText = str
ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=False)


class TemplateError(Exception):
    """A template cannot be read, or a case does not have what it names."""


@dataclass(frozen=True)
class Template:
    """Texts that take the place of those that a case was sent with."""

    name: str = ""
    """Only cases of this prompt are rendered; empty: all."""
    version: str = ""
    system: TemplateText | None = None
    user: TemplateText | None = None


def variables_of(text: TemplateText) -> frozenset[str]:
    """Return the names that a template needs.

    Raises:
        TemplateError: it is no template.
    """
    try:
        return frozenset(meta.find_undeclared_variables(ENVIRONMENT.parse(text)))
    except TemplateSyntaxError as error:
        raise TemplateError(f"line {error.lineno}: {error.message}") from error
