"""A failed call as a test case: its reasons, its texts without personal data, the expected answer. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.decode.rules import clean_text
from tailrace_emitter.redact import Redactor, walk

Text = Callable[[str | None], str | None]
Row = dict[str, Any]
"""Columns of golden_cases, without name and version of the set."""
KINDS = (
    *("thumbs_down", "low_rating", "edited", "guardrail", "blocked"),
    *("error", "refused", "truncated", "comment", "low_score", "drift"),
)
"""Reasons, the most severe first: feedback of people, blocked calls, errors, scores.

A comment may be praise, but it is ranked above what only a machine noticed.
"""
HEALTHY = "healthy"
"""Reason of a call that was drawn from those without any other reason, so that a set also holds what works today."""
_COPIED = (
    *("call_id", "call_epoch", "call_partition", "call_offset", "ts", "app", "feature"),
    *("model", "response_model", "prompt_name", "prompt_version"),
)
_TEXTS = ("system_text", "messages", "input_text", "output_text", "retrieval_docs", "variables")
_HASHED = ("case_id", *_COPIED, "reasons", "stratum", *_TEXTS, "expected", "expected_from")
"""All but the version that brought the case in, and the rubric, which is hashed where there is one: so sets with the
same cases have the same hash, with any history.
"""
_DIGEST = re.compile(r"(hmac|sha256):[0-9a-f]{64}")
"""The digest by which an emitter in mode ``hashed`` replaces a text."""
_PLACEHOLDER = re.compile(r"<([A-Z]{2,8})_([1-9][0-9]{0,8})>")
_START = datetime(1970, 1, 1, tzinfo=UTC)


def case_id(set_name: str, call_id: str) -> str:
    """Return the identity of a call in a set: 16 hex digits."""
    return hashlib.sha256(f"{set_name}/{call_id}".encode()).hexdigest()[:16]


def draw(seed: int, call_id: str) -> str:
    """Return the tie-breaker of calls of equal severity; ``warehouse.golden.failed_calls`` uses the same."""
    return hashlib.sha256(f"{seed}/{call_id}".encode()).hexdigest()


def weight(reason: str) -> int:
    """Return the severity of ``reason``, by its kind; 0 for ``HEALTHY``."""
    return 0 if reason == HEALTHY else len(KINDS) - KINDS.index(reason.partition(":")[0])


def severity(case: Row) -> int:
    """Return the severity of all reasons of ``case``."""
    return sum(map(weight, case["reasons"]))


def new_case(set_name: str, call: Mapping[str, Any], *, version: int) -> Row | None:
    """Return the case of a failed call; None where its only reason is an edit that changed nothing.

    Args:
        set_name: of the golden set.
        call: a row of ``warehouse.golden.failed_calls``.
        version: that would bring it in.
    """
    edited = call["edited"] if call["edited"] and not _DIGEST.fullmatch(call["edited"]) else None
    same = edited is not None and edited == call["output_text"]
    reasons = _sorted(reason for reason in call["reasons"] if not (same and reason == "edited"))
    if not reasons:
        return None
    wanted = None if same else edited
    text = redactor(call, wanted)
    return {
        "case_id": case_id(set_name, call["call_id"]),
        **{name: call[name] for name in _COPIED},
        "reasons": reasons,
        # names from events are no strata: there may be many scorers, and features may be ids
        "stratum": json.dumps([call["app"], call["stratum_feature"], reasons[0].partition(":")[0]]),
        "added_in": version,
        **_texts(call, text),
        "expected": text(wanted),
        "expected_from": "edit" if wanted else None,
        "rubric": None,
    }


def seen_again(case: Row, new: Row) -> Row:
    """Return a case of the previous version with the feedback on its call by now; the expectations of a review stay."""
    reasons = _sorted({*case["reasons"], *new["reasons"]})
    if new["expected"] is None or case["expected_from"] == "review":
        return {**case, "reasons": reasons}
    # redacted together with its texts, so that <EMAIL_2> in the edit is the same address as in the texts
    texts = {name: new[name] for name in _TEXTS}
    return {**case, **texts, "reasons": reasons, "expected": new["expected"], "expected_from": "edit"}


def reviewed(case: Row, review: Mapping[str, Any] | None) -> Row:
    """Return ``case`` with the answer and the rubric of a reviewer, or without those that were withdrawn."""
    if review is not None and review.get("rubric") is not None:
        rubric = review["rubric"].strip() and clean_text(review["rubric"])
        case = {**case, "rubric": redactor(case, rubric)(rubric) or None}
    if review is None or review["expected"] is None:
        return case
    if not review["expected"].strip():
        return {**case, "expected": None, "expected_from": None} if case["expected_from"] == "review" else case
    # numbered by the texts alone: with the previous answer the numbers would grow at every review
    expected = redactor(case, review["expected"])(clean_text(review["expected"]))
    return {**case, "expected": expected, "expected_from": "review"}


def redactor(row: Mapping[str, Any], *more: str | None) -> Text:
    """Return the redactor of the texts of one case: an address is the same ``<EMAIL_1>`` in all of them.

    Existing placeholders keep their numbers; a newly found address gets the next number.

    Args:
        row: of golden_cases, or of ``warehouse.golden.failed_calls``.
        more: texts about it.
    """
    taken: dict[str, int] = {}

    def note(text: str | None) -> str | None:
        for kind, number in _PLACEHOLDER.findall(text or ""):
            taken[kind] = max(taken.get(kind, 0), int(number))
        return text

    _texts(row, note)
    for text in more:
        note(text)
    inner = Redactor(taken).text
    return lambda text: inner(text) if text else text


def chat_text(case: Row) -> str:
    """Return the conversation, for comparison, without the instructions of templates, which are equal in all cases."""
    turns = [message["text"] for message in case["messages"] or () if message["role"] != "system" and message["text"]]
    return "\n".join(turns) or case["input_text"] or ""


def content_hash(cases: Iterable[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the canonical JSON of ``cases``, independent of their order; times as µs UTC."""
    rows = sorted(map(_hashed, cases), key=lambda row: row["case_id"])
    return hashlib.sha256(_json(rows).encode()).hexdigest()


def _hashed(case: Mapping[str, Any]) -> Row:
    """Return what is hashed; a missing rubric is left out, so that the hashes of old versions stay the same."""
    row = {name: _normalised(case[name]) for name in _HASHED}
    return {**row, "rubric": case["rubric"]} if case.get("rubric") else row


def _sorted(reasons: Iterable[str]) -> list[str]:
    """Return ``reasons``, the most severe first; a case that failed since it was drawn is not healthy any more."""
    found = set(reasons)
    return sorted(found - {HEALTHY} or found, key=lambda reason: (-weight(reason), reason))


def _texts(row: Mapping[str, Any], text: Text) -> Row:
    """Return the texts of users in a case, redacted by ``text``; ids of documents too, as they may name a person."""
    return {
        "system_text": text(row["system_text"]),
        "messages": _each(row["messages"], ("text",), text),
        "input_text": text(row["input_text"]),
        "output_text": text(row["output_text"]),
        "retrieval_docs": _each(row["retrieval_docs"], ("id", "chunk", "text"), text),
        "variables": _variables(row["variables"], text),
    }


def _each(items: Sequence[Mapping[str, Any]] | None, names: Sequence[str], text: Text) -> list[Row] | None:
    if items is None:
        return None
    return [{**item, **{name: text(item[name]) for name in names if item.get(name)}} for item in items]


def _variables(given: str | None, text: Text) -> str | None:
    if not given:
        return None
    try:
        return _json(walk(json.loads(given), lambda word: text(word) or ""))
    except (ValueError, RecursionError):
        return text(given)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _normalised(value: Any) -> Any:
    return (value - _START) // timedelta(microseconds=1) if isinstance(value, datetime) else value
