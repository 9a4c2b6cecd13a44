"""The cases that are judged, from rows of a golden set or from lines of a file that ``golden export`` wrote. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from jobs.evals.case import NOTHING_EXPECTED, Context, Expectation, Message
from jobs.gate.targets import digest


@dataclass(frozen=True)
class GoldenCase:
    """One case, as the gate uses it."""

    case_id: str
    input_text: str
    """Last user turn."""
    messages: tuple[Message, ...] = ()
    system_text: str | None = None
    app: str = ""
    feature: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    variables: Mapping[str, Any] | None = None
    """None or empty: templates cannot be rendered with it."""
    contexts: tuple[Context, ...] = ()
    reference: str | None = None
    rubric: str | None = None
    """What a good answer to this case does: for judges that take the rubric of a case."""
    expect: Expectation = NOTHING_EXPECTED
    shadow: bool = False
    """Not reviewed: it is shown, and does not block."""

    @property
    def context_texts(self) -> tuple[str, ...]:
        """Texts of the retrieved chunks."""
        return tuple(each.text for each in self.contexts if each.text)


@dataclass(frozen=True)
class GoldenCases:
    """What is judged."""

    name: str
    """``production@12``, or the name of a file."""
    cases: tuple[GoldenCase, ...]
    """By id."""
    problems: tuple[str, ...] = ()
    """Lines that are no case: each names file, line and cause."""
    warnings: tuple[str, ...] = ()
    """Such as that the set is stale."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the cases: two reports with the same judge the same questions."""
        rows = [msgspec.to_builtins(replace(case, shadow=False)) for case in self.cases]
        # a missing rubric is left out, so that earlier reports of the same cases can still be a baseline
        return digest([{k: v for k, v in row.items() if k != "rubric" or v is not None} for row in rows])


def from_lines(lines: Iterable[str], name: str) -> GoldenCases:
    """Return the cases of a JSON lines file; a line that is no case is a problem, and the others are judged."""
    cases: dict[str, GoldenCase] = {}
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            case = from_row(json.loads(line))
        except (ValueError, RecursionError) as error:
            problems.append(f"{name}, line {number}: {_describe(error)}")
            continue
        if case.case_id in cases:
            problems.append(f"{name}, line {number}: case {case.case_id} stands there twice")
            continue
        cases[case.case_id] = case
    return GoldenCases(name, tuple(cases[i] for i in sorted(cases)), tuple(problems))


def from_row(row: Any) -> GoldenCase:
    """Return the case of a row of golden_cases; keys that are absent are as if they were null.

    Raises:
        ValueError: it is none, and why.
    """
    try:
        raw = msgspec.convert(row, _Row)
    except msgspec.ValidationError as error:
        raise ValueError(f"no case: {error}") from error
    turns = tuple(Message(m.role or "", m.text or "") for m in raw.messages or ())
    asked = raw.input_text or next((m.text for m in reversed(turns) if m.role == "user"), "")
    if not raw.case_id.strip() or not asked:
        raise ValueError("no case: it has no case_id" if asked else "no case: it has neither input_text nor messages")
    return GoldenCase(
        raw.case_id,
        asked,
        turns,
        raw.system_text,
        raw.app or "",
        raw.feature,
        raw.prompt_name,
        raw.prompt_version,
        _variables(raw.variables),
        tuple(Context(d.id or "", d.text, d.rank, d.relevant) for d in raw.retrieval_docs or ()),
        raw.expected,
        (raw.rubric or "").strip() or None,
        _expect(raw.expect),
        raw.split == "shadow",
    )


class _Message(msgspec.Struct):
    role: str | None = None
    text: str | None = None


class _Doc(msgspec.Struct):
    id: str | None = None
    text: str | None = None
    rank: int | None = None
    relevant: bool | None = None


class _Row(msgspec.Struct):
    case_id: str
    input_text: str | None = None
    messages: list[_Message] | None = None
    system_text: str | None = None
    app: str | None = None
    feature: str | None = None
    prompt_name: str | None = None
    prompt_version: str | None = None
    variables: str | dict[str, Any] | None = None
    retrieval_docs: list[_Doc] | None = None
    expected: str | None = None
    rubric: str | None = None
    expect: str | dict[str, Any] | None = None
    split: str | None = None


def _variables(given: str | dict[str, Any] | None) -> dict[str, Any] | None:
    if not isinstance(given, str):
        return given or None
    try:
        read = json.loads(given)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) and read else None


def _expect(given: str | dict[str, Any] | None) -> Expectation:
    if not given:
        return NOTHING_EXPECTED
    try:
        return msgspec.convert(json.loads(given) if isinstance(given, str) else given, Expectation)
    except msgspec.ValidationError as error:
        raise ValueError(f"no case: expect: {error}") from error


def _describe(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"no JSON: {error.msg} at character {error.pos + 1}"
    return str(error) or type(error).__name__
