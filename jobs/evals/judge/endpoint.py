"""One question to a judge model over any endpoint that implements OpenAI's chat completions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

import openai

from jobs.evals.judge.prompt import Message

Price = Callable[[str, Mapping[str, Any]], Decimal | None]
"""(model, usage object of the provider) -> USD; None where the price is not known."""


class JudgeError(Exception):
    """The judge gave no reply to one question. The case has no score and the run continues."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        """``unreachable``, ``refused`` (the endpoint does not accept the request), ``spend_limit``."""
        super().__init__(f"{kind}: {detail}")


@dataclass(frozen=True)
class Question:
    """One question to the judge."""

    messages: Sequence[Message]
    schema: Mapping[str, Any]
    """JSON Schema of the reply."""
    sample: int = 0
    """Number of the sample: the same question is asked several times for self-consistency."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    text: str | None
    cost: Decimal | None
    """USD; None where the price is not known. 0 where the reply came from the cache."""
    cached: bool = False


class Endpoint(Protocol):
    """Answers questions. Called by several threads at a time."""

    def ask(self, question: Question) -> Reply:
        """Return the reply.

        Raises:
            JudgeError: there is none.
        """


@dataclass
class ChatEndpoint:
    """Chat completions of an ``openai.OpenAI`` client; the client retries temporary errors (429, 5xx, connections)."""

    client: openai.OpenAI
    model: str
    price: Price
    temperature: float = 0.0
    max_tokens: int = 512
    _format: str = field(default="json_schema", init=False)

    def ask(self, question: Question) -> Reply:
        """Ask; an endpoint without structured output is asked for a JSON object, then for plain text."""
        while True:
            form = self._format
            try:
                return self._read(self._ask(question, form))
            except openai.BadRequestError as error:
                if form == "text" or "response_format" not in str(error):
                    raise JudgeError("refused", _plain(error)) from error
                self._format = "json_object" if form == "json_schema" else "text"
            except openai.APIStatusError as error:
                kind = "refused" if error.status_code in (401, 403, 404, 422) else "unreachable"
                raise JudgeError(kind, _plain(error)) from error
            except openai.OpenAIError as error:
                raise JudgeError("unreachable", _plain(error)) from error

    def _ask(self, question: Question, form: str) -> Any:
        formats: dict[str, Any] = {
            "json_schema": {
                "type": "json_schema",
                "json_schema": {"name": "verdict", "strict": True, "schema": question.schema},
            },
            "json_object": {"type": "json_object"},
        }
        extra = {"response_format": formats[form]} if form in formats else {}
        return self.client.chat.completions.create(
            model=self.model,
            messages=question.messages,  # type: ignore[arg-type]
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            **extra,
        )

    def _read(self, response: Any) -> Reply:
        choices = response.choices or []
        text = choices[0].message.content if choices else None
        usage = response.usage.model_dump(exclude_none=True) if response.usage else None
        return Reply(text, self.price(response.model or self.model, usage) if usage else None)


def _plain(error: openai.OpenAIError) -> str:
    """Return the kind of ``error`` and its first line; the body of a reply may repeat the texts that were sent."""
    status = f" {error.status_code}" if isinstance(error, openai.APIStatusError) else ""
    return f"{type(error).__name__}{status}"
