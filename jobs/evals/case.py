"""What a scorer gets and what it gives: one call as a value, and one score. Pure.

The gate builds cases from a golden set and from the answers of a candidate; the weekly job builds them from landed
calls. A scorer treats both in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of the conversation that was sent."""

    role: str
    """system, user, assistant or tool; empty: not reported."""
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that the model asked for or that the app ran."""

    name: str
    ok: bool | None = None
    args: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """A retrieved chunk."""

    id: str
    text: str | None = None
    """None: the event has no text of it."""
    rank: int | None = None
    """1 is first."""
    relevant: bool | None = None
    """None: not judged."""


@dataclass(frozen=True, slots=True)
class Opinion:
    """The judgement of a person on the call: a feedback event, or an eval event whose evaluator is human."""

    kind: str
    """thumbs, rating, comment, edit, accept, copy; ``label`` for a human eval."""
    score: float | None = None
    """thumbs -1 / +1; rating and label 0..1."""
    label: str | None = None
    edited: str | None = None
    """The answer as the user corrected it."""
    name: str = ""
    """Metric of a human eval."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the answer must be; what is None or empty is not asked for."""

    contains: tuple[str, ...] = ()
    """All of these, in upper or lower case."""
    excludes: tuple[str, ...] = ()
    """None of these."""
    regex: tuple[str, ...] = ()
    """Each is found somewhere in the answer (``re.search``)."""
    json: bool | None = None
    """The answer is one JSON document; None: not asked for unless there is a ``json_schema``."""
    json_schema: Mapping[str, Any] | None = field(default=None, hash=False)
    min_chars: int | None = None
    max_chars: int | None = None
    language: str | None = None
    """ISO 639-1; None: the language of the last user text."""


NOTHING_EXPECTED = Expectation()


@dataclass(frozen=True, slots=True)
class Case:
    """One call to be scored. None means "not reported"; it is never 0 and never empty."""

    call_id: str
    """Of the call; of a golden case its ``case_id``."""
    app: str = ""
    feature: str | None = None
    model: str = ""
    """The model asked for."""
    prompt_name: str | None = None
    prompt_version: str | None = None
    variant: str | None = None
    messages: tuple[Message, ...] = ()
    input_text: str | None = None
    """Text of the last user turn."""
    output: str | None = None
    reference: str | None = None
    """The correct answer, by a reviewer or by a user's edit."""
    rubric: str | None = None
    """What a good answer to this very case does; of golden cases only."""
    contexts: tuple[Context, ...] = ()
    finish_reason: str | None = None
    status: str = "ok"
    """ok, error, blocked or cancelled."""
    refused: bool | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    cost_usd: Decimal | None = None
    opinions: tuple[Opinion, ...] = ()
    tools: tuple[Tool, ...] = ()
    expect: Expectation = NOTHING_EXPECTED

    @property
    def context_texts(self) -> tuple[str, ...]:
        """Texts of the retrieved chunks, where there are any."""
        return tuple(context.text for context in self.contexts if context.text)


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a scorer for one case. Exactly one of ``value``, ``not_judgeable`` and ``error`` is set."""

    value: float | None = None
    """0..1; 1 is the good end for every scorer, so that a drop is always a loss."""
    label: str | None = None
    """Low cardinality, such as ``refused``."""
    explanation: str = ""
    not_judgeable: str = ""
    """Why this scorer cannot judge the case, such as ``no retrieved text``. It is never counted as 0 or 1."""
    error: str = ""
    """Why the scorer failed, such as ``judge timed out``. It is counted, and never guessed."""

    def __post_init__(self) -> None:
        if (self.value is not None) + bool(self.not_judgeable) + bool(self.error) != 1:
            raise ValueError("a score has exactly one of value, not_judgeable and error")
        if self.value is not None and not (math.isfinite(self.value) and 0 <= self.value <= 1):
            raise ValueError(f"a score lies in 0..1, this one is {self.value!r}")


def not_judgeable(reason: str) -> Score:
    """Return the score of a case that a scorer cannot judge, because of ``reason``."""
    return Score(not_judgeable=reason)


def passed(ok: bool, *, label: str | None = None, explanation: str = "") -> Score:
    """Return 1 where ``ok``, else 0."""
    return Score(float(ok), label, explanation)
