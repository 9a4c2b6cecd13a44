"""Rows as people read them: a table, CSV, JSON lines, Parquet. Every cell may be a stranger's text."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import unicodedata
from decimal import Decimal
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
_SEPARATES = re.compile(r"([;,\t|\r\n])")
"""Where a spreadsheet may begin another cell: which of them separates is its reader's setting, not ours."""
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Categories of what a spreadsheet may skip in front of a formula: controls, formats (U+200B, U+FEFF), blanks."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def print_rows(rows: pa.Table, as_format: Format, out: Path | None) -> None:
    """Print ``rows``, or write them to ``out``. Parquet and JSON hold every value as it is.

    CSV goes byte for byte into a file or a pipe; a terminal gets it without what a terminal would act on.
    """
    if as_format is Format.PARQUET:
        if out is None:
            raise typer.BadParameter("parquet needs --out FILE")
        pq.write_table(rows, out, compression="zstd")
        return
    if as_format is Format.TABLE and out is None:
        table(rows)
        return
    text = to_csv(rows) if as_format is Format.CSV else json_lines(rows)
    if out is not None:
        out.write_bytes(text.encode())
    elif sys.stdout.isatty():
        typer.echo(shown_lines(text), nl=False)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())  # typer.echo would take colours out of a pipe
        sys.stdout.buffer.flush()


def json_lines(rows: pa.Table) -> str:
    """One JSON object a line, ASCII: no control character reaches a terminal."""
    return "".join(json_line(row) + "\n" for row in rows.to_pylist())


def json_line(value: Any) -> str:
    """Encode ``value`` as one line of printable ASCII; DEL is ASCII that json leaves as it is."""
    return json.dumps(value, default=str).replace("\x7f", "\\u007f")


def to_csv(rows: pa.Table) -> str:
    """CSV for people: a text cell that a spreadsheet would run as a formula gets a leading apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([_guarded(name) for name in rows.column_names])
    for row in rows.to_pylist():
        writer.writerow([_cell(value) for value in row.values()])
    return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    # a list or a struct is text as well by then, and a stranger's words stand in it
    return value if isinstance(value, int | float | Decimal) else _guarded(str(value))


def _guarded(text: str) -> str:
    """Put an apostrophe before every formula, also behind what another spreadsheet's setting takes for a separator.

    One in front of the whole cell, or quotes around it, would not help there: such a reader cuts ``x;=1+1`` in two.
    """
    whole = "'" if text[:1] in ("\t", "\r", "\n") else ""
    return whole + "".join(f"'{part}" if _runs(part) else part for part in _SEPARATES.split(text))


def _runs(part: str) -> bool:
    if _NUMBER.fullmatch(part.strip(" []")):  # of a list as well
        return False
    return next((c for c in part if unicodedata.category(c) not in _UNSEEN), "") in _FORMULA


def table(rows: pa.Table) -> None:
    """At most 1,000 rows for a terminal."""
    grid = Table(*(escape(shown(name)) for name in rows.column_names))  # PIVOT makes names of values
    for row in rows.slice(0, 1000).to_pylist():
        grid.add_row(*(escape(shown(value)) for value in row.values()))
    Console().print(grid)
    if rows.num_rows > 1000:
        typer.echo(f"... and {rows.num_rows - 1000} more rows; --format csv prints all", err=True)


def shown(value: Any) -> str:
    """One cell, or one line, without control, direction or invisible characters."""
    text = "NULL" if value is None else str(value)
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def shown_lines(value: Any) -> str:
    """``shown`` for what has lines and tabs of its own, such as a message of DuckDB or CSV."""
    return "".join(c if c in "\n\t" else shown(c) for c in str(value).replace("\r\n", "\n"))
