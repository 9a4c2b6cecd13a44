"""Cases in the formats of other tools. Pure; every text in them comes from users.

promptfoo renders its test cases as Nunjucks templates, and reads (or runs) what a variable or an assertion names with
``file://`` or ``package:``. So a word joiner is put where such a marker would begin: a reader sees the same text, a
template engine does not. https://www.promptfoo.dev/docs/configuration/reference/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]
_JOINER = "\u2060"
_TEMPLATE = re.compile(r"\{(?=[{%#])")
_RUNS = re.compile(r"\s*(?:file://|package:)", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_OURS = frozenset({"input", "system", "messages"})
_SIMILAR = 0.8
"""Cosine of the embeddings of what came and what was expected; promptfoo's own default is 0.75."""

_OF_KIND: Mapping[str, Row] = {
    "refused": {"type": "not-is-refusal"},
    "truncated": {"type": "finish-reason", "value": "stop"},
    "error": {"type": "regex", "value": "\\S"},  # there is an answer
}
"""Kind of reason -> the assertion that it implies. Thumbs, ratings, blocks, guardrails, scores and drift imply none:
a person has to write what would be right, with ``tailrace golden review``."""
_VALID_JSON: Row = {"type": "is-json"}
"""Implied by the low score of a scorer that checks JSON."""


def promptfoo(case: Mapping[str, Any]) -> Row:
    """Return a promptfoo test case: ``{{input}}`` is the last user turn, ``{{messages}}`` the conversation as JSON.

    A variable is never a list: promptfoo would make a test case of each of its items. A case from which no assertion
    follows has ``informative: true`` in its metadata.
    """
    variables: Row = {
        **{k: _scalar(v) for k, v in variables_of(case).items() if _NAME.fullmatch(k) and k not in _OURS},
        "input": case["input_text"] or "",
        "system": case["system_text"] or "",
        "messages": json.dumps(messages_of(case)),
    }
    checks = _checks(case)
    about = ("case_id", "call_id", "app", "feature", "model", "prompt_name", "prompt_version", "expected_from")
    metadata: Row = {**{name: case[name] for name in about}, "reasons": list(case["reasons"])}
    metadata |= {name: case[name] for name in ("split", "reviewed_by") if case.get(name)}
    if case.get("rubric"):
        checks.append({"type": "llm-rubric", "value": case["rubric"]})
    if not checks:
        metadata["informative"] = True
        checks = [_differs(case)]
    return {"vars": _inert(variables), "assert": _inert(checks), "metadata": _inert(metadata)}


def _checks(case: Mapping[str, Any]) -> list[Row]:
    """Return what follows from the expected answer and from the reasons; empty where a person has to look."""
    checks: list[Row] = []
    if case["expected"]:
        checks.append({"type": "similar", "value": case["expected"], "threshold": _SIMILAR})
    for reason in case["reasons"]:
        kind, _, name = reason.partition(":")
        check = _VALID_JSON if "json" in name.casefold() else _OF_KIND.get(kind)
        if check and check not in checks:
            checks.append(dict(check))
    return checks


def _differs(case: Mapping[str, Any]) -> Row:
    """Return a check that fails nothing: its metric shows whether the answer is still the one that failed.

    promptfoo lets an assertion of weight 0 pass in any case.
    """
    failed = "healthy" not in case["reasons"]
    metric = "differs from the answer that failed" if failed else "differs from the recorded answer"
    return {"type": "not-equals", "value": case["output_text"] or "", "weight": 0, "metric": metric}


def openai(case: Mapping[str, Any]) -> Row:
    """Return a sample of OpenAI's evals; ``ideal`` is null where there is no expected answer.

    A graded eval may name ``rubric`` in its prompt, as it may any key of a sample.
    """
    rubric = {"rubric": case["rubric"]} if case.get("rubric") else {}
    return {"input": messages_of(case), "ideal": case["expected"], **rubric}


def messages_of(case: Mapping[str, Any]) -> list[Row]:
    """Return the conversation in OpenAI's chat form, the system text first."""
    turns = [
        {"role": message["role"] or "user", "content": message["text"] or ""} for message in case["messages"] or ()
    ]
    turns = turns or [{"role": "user", "content": case["input_text"] or ""}]
    if case["system_text"] and all(turn["role"] != "system" for turn in turns):
        turns.insert(0, {"role": "system", "content": case["system_text"]})
    return turns


def variables_of(case: Mapping[str, Any]) -> Row:
    """Return what was put into the template; empty where it is not known."""
    try:
        read = json.loads(case["variables"] or "{}")
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _scalar(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def _inert(value: Any) -> Any:
    if isinstance(value, str):
        return (_JOINER if _RUNS.match(value) else "") + _TEMPLATE.sub("{" + _JOINER, value)
    if isinstance(value, dict):
        return {key: _inert(item) for key, item in value.items()}
    return [_inert(item) for item in value] if isinstance(value, list) else value
