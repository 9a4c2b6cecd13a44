"""The request of a case: the candidate's template with the variables of the case, or the recorded conversation.

Templates are Jinja's, in its sandbox: the text of a template comes from a pull request, and a variable is a text of a
user, which is data and never a template. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import UndefinedError
from jinja2.exceptions import TemplateError as JinjaError

from jobs.gate.golden_file import GoldenCase
from jobs.gate.template import ENVIRONMENT, Template, TemplateError, TemplateText, variables_of

Message = dict[str, str]
_LONGEST = 2_000_000
"""Characters of a rendered text: a loop in a template must not fill the memory of an endpoint."""


@dataclass(frozen=True)
class Request:
    """What is sent for one case."""

    messages: tuple[Message, ...]
    rendered: bool
    """False: the recorded conversation, so that only model and parameters are compared."""


def request(case: GoldenCase, template: Template | None) -> Request:
    """Return the request of ``case``.

    A system text takes the place of the recorded one, a user text that of the last user turn; earlier turns stay. A
    template that needs variables leaves a case without variables as it was recorded.

    Raises:
        TemplateError: the case has variables, and not those that the template needs.
    """
    recorded = _recorded(case)
    if template is None or (template.name and template.name != case.prompt_name):
        return Request(recorded, rendered=False)
    texts = [text for text in (template.system, template.user) if text is not None]
    needed = frozenset().union(*map(variables_of, texts))
    if needed and not case.variables:
        return Request(recorded, rendered=False)
    values = {"input": case.input_text, "contexts": list(case.context_texts), **(case.variables or {})}
    if missing := sorted(needed - set(values)):
        raise TemplateError(f"the template needs {', '.join(missing)}, which the case does not have")
    return Request(_replaced(recorded, template, values), rendered=True)


def _recorded(case: GoldenCase) -> tuple[Message, ...]:
    turns: list[Message] = [{"role": m.role or "user", "content": m.text} for m in case.messages]
    turns = turns or [{"role": "user", "content": case.input_text}]
    if case.system_text and all(turn["role"] != "system" for turn in turns):
        turns.insert(0, {"role": "system", "content": case.system_text})
    return tuple(turns)


def _replaced(recorded: Sequence[Message], template: Template, values: dict[str, Any]) -> tuple[Message, ...]:
    turns = list(recorded)
    if template.system is not None:
        turns = [turn for turn in turns if turn["role"] != "system"]
        turns.insert(0, {"role": "system", "content": _text(template.system, values)})
    if template.user is not None:
        user_turn = {"role": "user", "content": _text(template.user, values)}
        last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=None)
        if last is None:
            turns.append(user_turn)
        else:
            turns[last] = user_turn
    return tuple(turns)


def _text(text: TemplateText, values: dict[str, Any]) -> str:
    try:
        rendered = ENVIRONMENT.from_string(text).render(values)
    except (JinjaError, UndefinedError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise TemplateError(f"the template cannot be rendered: {type(error).__name__}: {error}") from error
    if len(rendered) > _LONGEST:
        raise TemplateError(f"the rendered text has {len(rendered)} characters, more than {_LONGEST}")
    return rendered
