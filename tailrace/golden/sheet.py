"""Open cases of a golden set as a sheet that people fill in: CSV for a spreadsheet, or JSON lines. Pure.

A spreadsheet runs a cell that begins with =, +, - or @ as a formula, and cases hold texts of strangers. Such a cell
gets an apostrophe in front, which is taken off where the sheet is read.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.errors import FatalError
from tailrace.cli.render.printable import json_line

COLUMNS = (
    *("case_id", "app", "feature", "reasons", "asked", "answered", "comments"),
    *("expected", "rubric", "verdict", "note"),
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
_VERDICTS = {
    **dict.fromkeys(("accepted", "accept", "a", "approve", "approved"), "accepted"),
    **dict.fromkeys(("rejected", "reject", "r"), "rejected"),
    **dict.fromkeys(("", "skip", "s"), ""),
}


class SheetRefusedError(FatalError):
    """A sheet cannot be used as it is: no verdict of it is sent."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        super().__init__(f"cannot read {where}: {problem}; {remedy}, no verdict was sent")


@dataclass(frozen=True)
class Filled:
    """A line with a verdict."""

    case_id: str
    verdict: str
    """accepted or rejected."""
    expected: str | None
    """None: as it was."""
    note: str | None
    rubric: str | None = None
    """None: as it was."""


def is_sheet(name: str) -> bool:
    """Return whether the extension of a file is that of a sheet."""
    return name.casefold().endswith((".csv", ".jsonl"))


def sheet(cases: Sequence[Mapping[str, Any]], name: str) -> bytes:
    """Return ``cases`` with an empty verdict; CSV or JSON lines, as ``name`` ends."""
    rows = [_row(case) for case in cases]
    if name.casefold().endswith(".jsonl"):
        return "".join(json_line(row) + "\n" for row in rows).encode()
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: _plain(v) for k, v in row.items()} for row in rows)
    return out.getvalue().encode("utf-8-sig")  # a spreadsheet takes UTF-8 without a mark for something else


def filled(text: str, name: str, cases: Mapping[str, Mapping[str, Any]]) -> list[Filled]:
    """Return the lines of a sheet that have a verdict.

    Args:
        text: of the file.
        name: of the file; its extension is its format.
        cases: id -> case, of those that may be judged.

    Raises:
        SheetRefusedError: a line is broken, names no such case, or names one twice.
    """
    found: dict[str, Filled] = {}
    for where, row in (_lines if name.casefold().endswith(".jsonl") else _cells)(text, name):
        line = _filled(row, where, cases)
        if line and line.case_id in found:
            raise SheetRefusedError(where, f"case {line.case_id} has a verdict already", "keep one of the lines")
        if line:
            found[line.case_id] = line
    return list(found.values())


def _row(case: Mapping[str, Any]) -> dict[str, str]:
    texts = {"asked": case["input_text"], "answered": case["output_text"], "expected": case["expected"]}
    texts |= {"comments": case.get("comments"), "rubric": case.get("rubric")}
    names = {"case_id": case["case_id"], "app": case["app"], "feature": case["feature"]}
    return {k: v or "" for k, v in {**names, "reasons": ", ".join(case["reasons"]), **texts}.items()} | {
        "verdict": "",
        "note": "",
    }


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _filled(row: Mapping[str, Any], where: str, cases: Mapping[str, Mapping[str, Any]]) -> Filled | None:
    cells = {name: _text(row.get(name), where, name) for name in ("case_id", "verdict", "expected", "rubric", "note")}
    verdict = _VERDICTS.get((cells["verdict"] or "").casefold())
    if verdict is None:
        problem = f"{cells['verdict']!r:.60} is no verdict"
        raise SheetRefusedError(where, problem, "write accept, reject, or nothing")
    if not verdict:
        return None
    case_id = cells["case_id"] or ""
    if case_id not in cases:
        raise SheetRefusedError(where, f"{case_id[:80]!r} is no open case of this set", "take the line out")
    changed = {
        name: cells[name] if cells[name] != (cases[case_id].get(name) or "").strip() and verdict == "accepted" else None
        for name in ("expected", "rubric")
    }
    return Filled(case_id, verdict, changed["expected"], cells["note"] or None, changed["rubric"])


def _text(value: Any, where: str, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise SheetRefusedError(where, f"{name} is no text", "write it in quotes")
    return value.strip()


def _lines(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SheetRefusedError(where, "it is no JSON", "correct it") from error
        if not isinstance(row, dict):
            raise SheetRefusedError(where, "it is no object", "correct it")
        yield where, row


def _cells(text: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    head = text.partition("\n")[0]  # where a comma is the decimal point, spreadsheets part cells by semicolons
    reader = csv.DictReader(io.StringIO(text), delimiter=";" if head.count(";") > head.count(",") else ",")
    try:
        if missing := {"case_id", "verdict"} - set(reader.fieldnames or ()):
            raise SheetRefusedError(name, f"it has no column {', '.join(sorted(missing))}", "keep the first line")
        for row in reader:
            where = f"{name}, line {reader.line_num}"
            if None in row or None in row.values():
                raise SheetRefusedError(where, "it has not as many cells as the first line", "correct it")
            yield where, {k: v[1:] if v.startswith("'") else v for k, v in row.items()}
    except csv.Error as error:
        raise SheetRefusedError(f"{name}, line {reader.line_num}", str(error), "correct it") from error
