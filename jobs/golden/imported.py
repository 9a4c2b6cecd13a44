"""An existing test set as golden cases: JSON lines, CSV, or the ``tests`` of a promptfoo configuration. Pure.

Names of fields are those that DeepEval, RAGAS, LangSmith, Braintrust, OpenAI's evals and our own export use.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from jobs.golden.cases import Row, redactor
from pipelines.decode.rules import clean, clean_text
from schemas.errors import FatalError

REASON = "imported"
_INPUT = ("input_text", "input", "user_input", "question", "query", "prompt", "inputs")
_EXPECTED = ("expected", "expected_output", "expectedOutput", "reference", "ideal", "answer", "ground_truth", "outputs")
_RUBRIC = ("rubric", "criteria", "grading_notes", "guidelines")
_CONTEXTS = ("retrieval_docs", "contexts", "retrieval_context", "retrieved_contexts", "context")
_ID = ("case_id", "id", "name")
_ANSWERS = frozenset({"equals", "similar"})
"""Assertions of promptfoo whose value is an answer."""
_JUDGED = frozenset({"llm-rubric", "g-eval", "model-graded-closedqa"})
"""Assertions whose value describes a good answer."""


class ImportFailedError(FatalError):
    """A file holds something that is no case: nothing is imported."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"cannot import {where}: {problem}; correct it, nothing was imported")


@dataclass(frozen=True)
class Imported:
    """What a file holds."""

    cases: tuple[Row, ...]
    """Columns of golden_cases but ``ts`` and ``added_in``."""
    left_out: Mapping[str, int]
    """Type of assertion that golden cases do not have -> how many."""


def read(text: str, name: str, *, set_name: str) -> Imported:
    """Return the cases of a file; its extension is its format: .jsonl, .csv, .yaml, .yml.

    Args:
        text: of the file.
        name: of the file, for errors.
        set_name: of the golden set, for the ids.

    Raises:
        ImportFailedError: the form is unknown, or a line is no case.
    """
    ending = name.rpartition(".")[2].casefold()
    forms = {"jsonl": _jsonl, "csv": _csv, "yaml": _promptfoo, "yml": _promptfoo}
    if ending not in forms:
        raise ImportFailedError(name, "its name ends neither with .jsonl nor with .csv, .yaml or .yml")
    left_out: dict[str, int] = {}
    cases: dict[str, Row] = {}
    for where, given in forms[ending](text, name):
        if not isinstance(given, dict):
            raise ImportFailedError(where, "it is no object")
        case = _case(clean(given), where, set_name)
        cases.setdefault(case["case_id"], case)
        for assertion in given.get(_LEFT, ()):
            left_out[assertion] = left_out.get(assertion, 0) + 1
    if not cases:
        raise ImportFailedError(name, "it holds no case")
    return Imported(tuple(cases[i] for i in sorted(cases)), left_out)


_LEFT = "\0left"


def _jsonl(text: str, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"{name}, line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ImportFailedError(f"{name}, line {number}", "it is no JSON") from error


def _csv(text: str, name: str) -> Iterator[tuple[str, Any]]:
    rows = csv.DictReader(io.StringIO(text))
    try:
        for row in rows:
            if None in row:
                raise ImportFailedError(f"{name}, line {rows.line_num}", "it has more cells than the header")
            yield f"{name}, line {rows.line_num}", {k: v for k, v in row.items() if v}
    except csv.Error as error:
        raise ImportFailedError(f"{name}, line {rows.line_num}", str(error)) from error


def _promptfoo(text: str, name: str) -> Iterator[tuple[str, Any]]:
    try:
        read = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ImportFailedError(f"{name}{f', line {mark.line + 1}' if mark else ''}", "it is no YAML") from error
    tests = read.get("tests") if isinstance(read, dict) else read
    if not isinstance(tests, list):
        raise ImportFailedError(name, "it has no list `tests`")
    for number, test in enumerate(tests, 1):
        where = f"{name}, test {number}"
        if not isinstance(test, dict) or not isinstance(test.get("vars"), dict):
            raise ImportFailedError(where, "it has no `vars`")
        checks = [check for check in test.get("assert") or () if isinstance(check, dict)]
        answer = next((c.get("value") for c in checks if c.get("type") in _ANSWERS), None)
        asked = next((test["vars"][n] for n in _INPUT if isinstance(test["vars"].get(n), str)), None)
        rubric = [str(each) for c in checks if c.get("type") in _JUDGED for each in _listed(c.get("value"))]
        others = [str(c.get("type")) for c in checks if c.get("type") not in _ANSWERS | _JUDGED]
        yield (
            where,
            {
                "input": asked or json.dumps(test["vars"], sort_keys=True, default=str),
                "variables": test["vars"],
                "expected": answer,
                "rubric": "\n".join(rubric),
                _LEFT: others,
            },
        )


def _case(given: Mapping[str, Any], where: str, set_name: str) -> Row:
    messages = _messages(_first(given, ("messages",)), where)
    asked = _text(_first(given, _INPUT)) or next((m["text"] for m in reversed(messages) if m["role"] == "user"), None)
    if not asked:
        raise ImportFailedError(where, f"it has no input: none of {', '.join(_INPUT)}, messages")
    variables = given.get("variables")
    named = _text(_first(given, _ID)) or hashlib.sha256(f"{asked}\0{variables}".encode()).hexdigest()
    row: Row = {
        "case_id": hashlib.sha256(f"{set_name}/import/{named}".encode()).hexdigest()[:16],
        **dict.fromkeys(("call_id", "call_epoch", "call_partition", "call_offset", "response_model", "output_text")),
        "app": _text(given.get("app")) or REASON,
        **{name: _text(given.get(name)) for name in ("feature", "model", "prompt_name", "prompt_version")},
        "reasons": [REASON],
        "stratum": json.dumps([REASON]),
        "system_text": _text(given.get("system_text") or given.get("system")),
        "messages": messages or [{"role": "user", "text": asked}],
        "input_text": asked,
        "retrieval_docs": _docs(_first(given, _CONTEXTS)),
        "variables": variables if isinstance(variables, str) or variables is None else json.dumps(variables),
        "expected": _text(_first(given, _EXPECTED)),
        "expected_from": "import",
        "rubric": _text(_first(given, _RUBRIC)),
    }
    redact = redactor(row, row["expected"], row["rubric"])
    texts = {name: redact(row[name]) for name in ("system_text", "input_text", "variables", "expected", "rubric")}
    turns = [{**m, "text": redact(m["text"])} for m in row["messages"]]
    docs = None if row["retrieval_docs"] is None else [{**d, "text": redact(d["text"])} for d in row["retrieval_docs"]]
    return {**row, **texts, "messages": turns, "retrieval_docs": docs}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _first(given: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((given[name] for name in names if given.get(name) not in (None, "")), None)


def _text(value: Any) -> str | None:
    """Return a text; of an object with one text that text, else its JSON."""
    if value is None or isinstance(value, str):
        return clean_text(value) if value else None
    if isinstance(value, dict):
        texts = [v for v in value.values() if isinstance(v, str)]
        if len(texts) == 1:
            return texts[0]
    return json.dumps(value, sort_keys=True)


def _messages(given: Any, where: str) -> list[Row]:
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = None
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(m, dict) for m in given):
        raise ImportFailedError(where, "messages is no list of objects")
    return [
        {"role": _text(m.get("role")) or "user", "text": _text(m.get("text") or m.get("content")) or ""} for m in given
    ]


def _docs(given: Any) -> list[Row] | None:
    if given is None:
        return None
    items = given if isinstance(given, list) else [given]
    none = dict.fromkeys(("id", "rank", "score", "chunk", "text", "cited", "relevant"))
    docs = [item if isinstance(item, dict) else {"text": _text(item)} for item in items]
    return [{**none, **{k: v for k, v in doc.items() if k in none}, "rank": i} for i, doc in enumerate(docs, 1)]
