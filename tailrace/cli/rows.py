"""Rows as people read them: a table, CSV, JSON lines, Parquet. Every cell may be a stranger's text."""

from __future__ import annotations

import csv
import io
import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the start of a formula, full-width forms included (OWASP, CSV injection)."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def print_rows(rows: pa.Table, as_format: Format, out: Path | None) -> None:
    """Print ``rows``, or write them to ``out``. Parquet and JSON hold every value as it is."""
    if as_format is Format.PARQUET:
        if out is None:
            raise typer.BadParameter("parquet needs --out FILE")
        pq.write_table(rows, out, compression="zstd")
        return
    if as_format is Format.TABLE and out is None:
        table(rows)
        return
    text = to_csv(rows) if as_format is Format.CSV else json_lines(rows)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text)


def json_lines(rows: pa.Table) -> str:
    """One JSON object a line, ASCII: no control character reaches a terminal."""
    return "".join(json.dumps(row, default=str) + "\n" for row in rows.to_pylist())


def to_csv(rows: pa.Table) -> str:
    """CSV for people: a text cell that a spreadsheet would run as a formula gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_guarded(name) for name in rows.column_names])
    for row in rows.to_pylist():
        writer.writerow([_guarded(v) if isinstance(v, str) else "" if v is None else v for v in row.values()])
    return out.getvalue()


def _guarded(text: str) -> str:
    risky = text[:1] in ("\t", "\r", "\n") or text.lstrip().startswith(_FORMULA)
    return f"'{text}" if risky and not _NUMBER.fullmatch(text) else text


def table(rows: pa.Table) -> None:
    """At most 1,000 rows for a terminal."""
    grid = Table(*(escape(name) for name in rows.column_names))
    for row in rows.slice(0, 1000).to_pylist():
        grid.add_row(*(escape(shown(value)) for value in row.values()))
    Console().print(grid)
    if rows.num_rows > 1000:
        typer.echo(f"... and {rows.num_rows - 1000} more rows; --format csv prints all", err=True)


def shown(value: Any) -> str:
    """One cell without control, direction or invisible characters."""
    text = "NULL" if value is None else str(value)
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
