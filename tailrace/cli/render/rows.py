"""Rows as people and programs read them: CSV, JSON lines, Parquet, a table. Every cell may be a stranger's text.

The rows go from DuckDB to the text in Arrow, batch by batch: Python looks only at cells that need it.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from tailrace.cli.render.grid import table
from tailrace.cli.render.printable import json_line, printable, printable_lines
from warehouse.query.answer import Answer, answer_of

__all__ = [
    "csv_bytes",
    "json_bytes",
    "json_line",
    "json_lines",
    "printable",
    "printable_lines",
    "table",
    "to_csv",
]

_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What a spreadsheet takes for the start of a formula, full-width forms included (OWASP, CSV injection)."""
_SEPARATES = re.compile(r"([;,\t|\r\n])")
"""Where a spreadsheet may begin another cell: which of them separates is its reader's setting, not ours."""
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp", "Zs"})
"""Categories of what a spreadsheet may skip in front of a formula: controls, formats (U+200B, U+FEFF), blanks."""
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_MAY_RUN = r"(^|[;,\t|\r\n])[\pC\pZ]*[" + re.escape("".join(_FORMULA)) + r"]|^[\t\r\n]"
"""Cells that ``_guarded`` has to look at, for RE2."""
_NOT_JSON = r"NaN|Infinity"
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)')
"""A string of JSON, or a number that JSON does not have."""
_NOT_ASCII = re.compile(r"[^\n -~]")


def json_bytes(answer: Answer, on_not_finite: Callable[[int], None] = lambda count: None) -> Iterator[bytes]:
    """Yield one JSON object a line, ASCII: no control character reaches a terminal.

    Args:
        answer: its rows are read.
        on_not_finite: called with the number of values of a batch that are NaN or infinite, and null in the JSON.
    """
    for lines in answer.json():
        repaired, count = _finite(lines)
        if count:
            on_not_finite(count)
        yield _ascii(_joined([repaired], "\n"))


def csv_bytes(answer: Answer) -> Iterator[bytes]:
    """Yield CSV for people: a text cell that a spreadsheet would run as a formula gets a leading apostrophe."""
    lone = len(answer.names) == 1  # an empty line would be no row
    yield _header(answer.names)
    for batch in answer.cells(rfc3339=True):
        columns = zip(batch.columns, answer.numeric, answer.nested, strict=True)
        yield _joined([_quoted(_csv(column, *kind), lone=lone) for column, *kind in columns], "\r\n")


def json_lines(rows: pa.Table) -> str:
    """``json_bytes`` of a table."""
    return b"".join(json_bytes(answer_of(rows))).decode("ascii")


def to_csv(rows: pa.Table) -> str:
    """``csv_bytes`` of a table."""
    return b"".join(csv_bytes(answer_of(rows))).decode()


def _header(names: list[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow(map(_guarded, names))
    return line.getvalue().encode()


def _csv(column: pa.Array, numeric: bool, nested: bool) -> pa.Array:
    if numeric:
        return column
    if nested:
        column, _ = _finite(column)
    # a list or a struct is text as well by then, and contains texts of events
    return _patched(column, _MAY_RUN, _guarded)


def _finite(column: pa.Array) -> tuple[pa.Array, int]:
    """Return JSON with null in place of NaN and infinity, and how many there were."""
    count = 0

    def null(match: re.Match[str]) -> str:
        nonlocal count
        if match[0].startswith('"'):
            return match[0]
        count += 1
        return "null"

    return _patched(column, _NOT_JSON, lambda text: _TOKEN.sub(null, text)), count


def _patched(column: pa.Array, pattern: str, patch: Callable[[str], str]) -> pa.Array:
    """Return ``column`` with ``patch`` of the cells that match ``pattern``; the others never become Python strings."""
    mask = pc.fill_null(pc.match_substring_regex(column, pattern), False)
    if not mask.true_count:
        return column
    patched = pa.array([patch(text) for text in column.filter(mask).to_pylist()], column.type)
    return pc.replace_with_mask(column, mask, patched)


def _quoted(column: pa.Array, *, lone: bool) -> pa.Array:
    """Quote the cells that need it, by RFC 4180; NULL is empty."""
    column = pc.fill_null(column, "")
    needs = pc.match_substring_regex(column, '^$|[",\r\n]' if lone else '[",\r\n]')
    if not needs.true_count:
        return column
    doubled = pc.replace_substring(column, '"', '""')
    return pc.if_else(needs, pc.binary_join_element_wise('"', doubled, '"', ""), column)


def _joined(columns: list[pa.Array], end: str) -> bytes:
    """Return the rows as lines: the cells joined by commas, each line ended by ``end``."""
    lines = pc.binary_join_element_wise(*columns, ",") if len(columns) > 1 else columns[0]
    return _content(pc.binary_join_element_wise(lines, "", end))


def _content(texts: pa.Array) -> bytes:
    """Return all ``texts`` behind one another, as they lie in Arrow's buffer (https://arrow.apache.org/docs/format)."""
    _, ends, data = texts.buffers()
    end = memoryview(ends).cast("q" if pa.types.is_large_string(texts.type) else "i")
    return bytes(data[end[texts.offset] : end[texts.offset + len(texts)]])


def _ascii(text: bytes) -> bytes:
    if text.isascii() and b"\x7f" not in text:
        return text
    return _NOT_ASCII.sub(_escaped, text.decode()).encode("ascii")


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


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
