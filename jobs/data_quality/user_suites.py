"""Suites of users: files of Great Expectations' own JSON (or the same as YAML) under ``expectations/`` of the home.

``meta.table`` names the table of the lake; ``meta.where`` narrows its rows, or ``meta.sql`` is a SELECT that makes
them. Both may use ``$since``, ``$until`` and ``$now``. All of it runs in the sandbox of readers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from jobs.data_quality.suite import Check, Suite
from schemas.alerts import Severity
from schemas.tables import TABLES

FOLDER = "expectations"
_MOST_BYTES = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TABLES = {table.name: table for table in TABLES}
_VIEWS = {"calls": "raw_calls", "feedback": "raw_feedback", "evals": "raw_evals"}
_HOUR = "_landed_at >= $since AND _landed_at < $until"
_COUNTS = "NOT coalesce(_dup, false)"
_SUFFIXES = (".json", ".yaml", ".yml")


def read_suites(folder: Path, *, taken: Sequence[str] = ()) -> tuple[tuple[Suite, ...], tuple[str, ...]]:
    """Return the suites of ``folder``, and what is wrong with the files that give none; a missing folder is empty.

    Args:
        folder: ``expectations/`` of the home.
        taken: names of the shipped suites.
    """
    suites: list[Suite] = []
    problems: list[str] = []
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix in _SUFFIXES) if folder.is_dir() else []
    except OSError as error:
        return (), (f"{folder}: {error.strerror}; allow it to this user",)
    for file in files:
        try:
            suite = _suite(file)
            if suite.name in (*taken, *(other.name for other in suites)):
                raise ValueError(f"the name {suite.name} is taken; give the suite another")
            suites.append(suite)
        except OSError as error:
            problems.append(f"{file}: {error.strerror}; allow it to this user")
        except (ValueError, yaml.YAMLError, RecursionError) as error:
            problems.append(f"{file}: {' '.join(str(error).split())[:300]}")
    return tuple(suites), tuple(problems)


def _suite(file: Path) -> Suite:
    with file.open("rb") as opened:
        data = opened.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError("it is larger than 1 MiB; split it")
    text = data.decode("utf-8")
    found = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    if not isinstance(found, dict) or not isinstance(found.get("expectations"), list):
        raise ValueError('it is no suite: write {"name", "meta": {"table"}, "expectations": [{"type", "kwargs"}]}')
    name = str(found.get("name") or file.stem)
    if not _NAME.fullmatch(name):
        raise ValueError(f"name {name[:80]!r}: use letters, digits, dot, dash, underscore")
    meta = found.get("meta") or {}
    if not isinstance(meta, dict):
        raise ValueError("meta is no object")
    checks = [_check(each, number) for number, each in enumerate(found["expectations"], 1)]
    names = [check.name for check in checks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two expectations are called {twice[0]}: give each a meta.name of its own")
    sql = str(meta.get("sql") or "")
    table, where = ("", "") if sql else _source(meta)
    return Suite(name, table, tuple(checks), where, sql=sql, file=str(file))


def _source(meta: dict[str, Any]) -> tuple[str, str]:
    """Return the table, and which of its rows: those of the hour, where the table has the time of landing."""
    asked = str(meta.get("table") or "")
    table = _TABLES.get(_VIEWS.get(asked, asked))
    if table is None:
        raise ValueError(f"meta.table {asked[:80]!r} is none of {', '.join(sorted({*_VIEWS, *_TABLES}))}")
    columns = {column.name for column in table.columns}
    tests = [_HOUR] if "_landed_at" in columns else []
    tests += [_COUNTS] if "_dup" in columns else []
    tests += [f"({meta['where']})"] if meta.get("where") else []
    return table.name, " AND ".join(tests) or "true"


def _check(entry: Any, number: int) -> Check:
    kwargs = entry.get("kwargs") if isinstance(entry, dict) else None
    kind = (entry.get("type") or entry.get("expectation_type")) if isinstance(entry, dict) else None
    if not isinstance(kind, str) or not isinstance(kwargs, dict):
        raise ValueError(f"expectation {number}: it needs type (a name) and kwargs (an object)")
    meta = entry.get("meta") if isinstance(entry.get("meta"), dict) else {}
    columns = "-".join(Check("", "", kind, kwargs).columns)
    name = str(meta.get("name") or f"{kind.removeprefix('expect_')}{'.' if columns else ''}{columns}")[:120]
    severity = str(entry.get("severity") or "warning")
    if severity not in ("info", "warning", "critical"):
        raise ValueError(f"expectation {number}: severity {severity[:40]!r} is none of info, warning, critical")
    description = str(entry.get("description") or entry.get("notes") or f"{kind} {json.dumps(kwargs)[:200]}")
    return Check(name, description, kind, kwargs, cast("Severity", severity))
