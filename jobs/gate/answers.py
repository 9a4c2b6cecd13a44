"""Answers, and the cache that keeps them by the hash of what was asked, so that a second run does not pay again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import msgspec

from jobs.gate.golden_file import GoldenCase
from jobs.gate.render import Message
from jobs.gate.targets import Target, digest


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came back for one sample of one case. None: not reported."""

    text: str | None = None
    error: str = ""
    """Why there is no answer; empty where there is one."""
    model: str | None = None
    finish_reason: str | None = None
    refused: bool | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    reasoning_tokens: int | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    cost_usd: Decimal | None = None
    cached: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return not self.error


class Question(msgspec.Struct, frozen=True):
    """One sample of one case."""

    case: GoldenCase
    messages: Sequence[Message]
    sample: int


class Answerer(Protocol):
    """Answers questions; called by several threads at a time. A failure is an ``Answer`` with an error."""

    def __call__(self, question: Question) -> Answer:
        """Return the answer."""


class Cache:
    """A folder with one JSON file an answer, named by the hash of what was asked."""

    def __init__(self, folder: Path | None) -> None:
        """Take the folder; None: nothing is kept."""
        self._folder = folder

    def get(self, target: Target, question: Question) -> Answer | None:
        """Return the cached answer; None where there is none or it cannot be read."""
        if self._folder is None or not target.cacheable:
            return None
        try:
            kept = msgspec.json.decode(self._file(target, question).read_bytes(), type=Answer)
        except (OSError, msgspec.MsgspecError, ValueError):
            return None
        return msgspec.structs.replace(kept, cached=True)

    def put(self, target: Target, question: Question, answer: Answer) -> None:
        """Keep an answer; failures are asked again next time.

        On a full disk the answer is not cached, and the run continues.
        """
        if self._folder is None or not target.cacheable or not answer.ok:
            return
        file = self._file(target, question)
        draft = file.with_name(f".{file.name}.{os.getpid()}.{id(question)}")
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft.write_bytes(msgspec.json.encode(answer))
            draft.replace(file)

    def _file(self, target: Target, question: Question) -> Path:
        assert self._folder is not None
        key = digest(asked(target, question))
        return self._folder / key[:2] / f"{key}.json"


def asked(target: Target, question: Question) -> dict[str, Any]:
    """Return all that an answer depends on, as JSON."""
    facts: dict[str, Any] = {
        "messages": list(question.messages),
        "sample": question.sample,
        "parameters": dict(target.parameters),
    }
    if target.command:
        return {**facts, "command": list(target.command), "version": target.version, "case": case_facts(question)}
    return {**facts, "model": target.model, "base_url": target.base_url, "stream": target.stream}


def case_facts(question: Question) -> dict[str, Any]:
    """Return what a command reads on its stdin; the reference is not in it, because it is the correct answer."""
    case = question.case
    return {
        "case_id": case.case_id,
        "sample": question.sample,
        "app": case.app,
        "feature": case.feature,
        "prompt_name": case.prompt_name,
        "messages": list(question.messages),
        "input": case.input_text,
        "variables": dict(case.variables or {}),
        "contexts": list(case.context_texts),
    }
