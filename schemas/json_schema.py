"""Writes what other languages read: the published JSON Schema files, and the lake's columns, derived from the structs.

``python -m schemas.json_schema --write`` writes the files; without ``--write`` it prints what differs and exits 1.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from schemas.arrow import DEAD_BYTES_COLUMNS, DEAD_COLUMNS, Column, lake_columns
from tailrace_emitter.event import (
    EVAL_RESULTS,
    EVAL_TARGETS,
    FEEDBACK_TARGETS,
    SCHEMA_VERSION,
    Call,
    Eval,
    Event,
    Feedback,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
FOLDER = Path(__file__).parent
PUBLISHED: dict[str, type[Event]] = {"call": Call, "feedback": Feedback, "eval": Eval}
LAKE_FILE = "lake_columns.json"
_ONE_OF: dict[type[Event], tuple[tuple[str, ...], ...]] = {
    Feedback: (FEEDBACK_TARGETS,),
    Eval: (EVAL_TARGETS, EVAL_RESULTS),
}


def json_schema(struct: type[Event]) -> dict[str, Any]:
    """Return the draft 2020-12 schema of one event type, as an app in any language may check itself against.

    Unknown keys are allowed (they land in ``extra``), except those that begin with ``_``.
    """
    schema: dict[str, Any] = msgspec.json.schema(struct)
    _open(schema)
    target = schema["$defs"][struct.__name__]
    if struct in _ONE_OF:
        target["allOf"] = [{"anyOf": [_present(name) for name in names]} for names in _ONE_OF[struct]]
    name = next(n for n, s in PUBLISHED.items() if s is struct)
    return {
        "$schema": DIALECT,
        "$id": f"urn:tailrace:schema:{name}:v{SCHEMA_VERSION}",
        "title": f"Tailrace event `{name}`, version {SCHEMA_VERSION}",
        **schema,
    }


def lake_shape() -> dict[str, list[dict[str, str]]]:
    """Return table -> columns of the event tables: name, DuckDB type, Arrow type, place on the wire."""
    tables: dict[str, tuple[Column, ...]] = {
        **{f"raw_{'feedback' if n == 'feedback' else n + 's'}": lake_columns(s) for n, s in PUBLISHED.items()},
        "dead": DEAD_COLUMNS,
        "dead_bytes": DEAD_BYTES_COLUMNS,
    }
    return {
        table: [
            {"name": c.name, "duckdb": c.duckdb, "arrow": str(c.arrow), "wire": ".".join(c.path), "unit": c.unit}
            for c in columns
        ]
        for table, columns in tables.items()
    }


def files() -> dict[str, str]:
    """Return file name -> text of everything that is derived and stored."""
    derived: dict[str, Any] = {f"{name}.schema.json": json_schema(struct) for name, struct in PUBLISHED.items()}
    derived[LAKE_FILE] = lake_shape()
    return {name: json.dumps(value, indent=2, ensure_ascii=False) + "\n" for name, value in derived.items()}


def stale() -> list[str]:
    """Return the stored files that differ from the declared structs."""
    return [
        name
        for name, text in files().items()
        if not (FOLDER / name).is_file() or (FOLDER / name).read_text(encoding="utf-8") != text
    ]


def _open(node: Any) -> None:
    if isinstance(node, dict):
        if node.pop("additionalProperties", None) is False:
            node["patternProperties"] = {"^_": False}
        elif node.get("type") == "object" and "properties" not in node:
            node["additionalProperties"] = True
        for value in node.values():
            _open(value)
    elif isinstance(node, list):
        for value in node:
            _open(value)


def _present(name: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"not": {"type": "null"}}}}


def main(arguments: list[str]) -> int:
    """Bless with ``--write``, else compare."""
    changed = stale()
    if "--write" in arguments:
        for name, text in files().items():
            (FOLDER / name).write_text(text, encoding="utf-8")
    sys.stdout.write("".join(f"{'written' if '--write' in arguments else 'stale'}: {name}\n" for name in changed))
    return 1 if changed and "--write" not in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
