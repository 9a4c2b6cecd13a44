"""Whether the answer is the JSON that was asked for, and keeps its JSON Schema."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from jobs.evals.case import Case, Score, not_judgeable, passed
from jobs.evals.scorers.base import ByCase, output_of

_MOST_CHARS = 1 << 20
"""Longer answers are no documents that an app would parse; the wire carries at most as much."""


def json_valid(case: Case) -> Score:
    """1 where the whole answer parses and keeps the schema; fences of Markdown are not JSON, as for the app."""
    expect = case.expect
    if not (expect.json or expect.json_schema is not None):
        return not_judgeable("no JSON was asked for")
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    if len(answer) > _MOST_CHARS:
        return passed(False, label="too_long", explanation=f"longer than {_MOST_CHARS} characters")
    try:
        document = json.loads(answer, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return passed(False, label="not_json", explanation=str(error)[:200])
    if expect.json_schema is None:
        return passed(True, label="valid")
    return _keeps(document, expect.json_schema)


def _keeps(document: Any, schema: Any) -> Score:
    try:
        kind = validator_for(schema, default=jsonschema.Draft202012Validator)
        kind.check_schema(schema)
        # no registry of other documents: a $ref to an address is refused, never fetched
        error = jsonschema.exceptions.best_match(kind(schema, registry=Registry()).iter_errors(document))
    except jsonschema.exceptions.SchemaError as wrong:
        return Score(error=f"the JSON Schema is not valid: {wrong.message[:200]}")
    except (Unresolvable, RecursionError, ValueError, LookupError, TypeError, AttributeError) as wrong:
        return Score(error=f"the JSON Schema cannot be applied: {type(wrong).__name__}")
    if error is None:
        return passed(True, label="valid")
    where = "/".join(map(str, error.absolute_path)) or "the document"
    return passed(False, label="schema", explanation=f"{where}: {error.message}"[:200])


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


JSON_VALID = ByCase("json_valid", json_valid)
