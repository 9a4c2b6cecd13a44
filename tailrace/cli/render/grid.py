"""Rows for a terminal: a grid where it can be read at this width, else one record below the other."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

import pyarrow as pa
import typer

from tailrace.cli.render.printable import printable, printable_lines
from warehouse.query.answer import Answer, answer_of

MOST_ROWS = 1_000
_MOST_CHARS = 1_000
"""Of one cell."""
_FOLDED = 24
"""Columns that a long text still needs to be readable when it is folded."""
_EXPLAINED = ["explain_key", "explain_value"]


def table(rows: pa.Table) -> None:
    """Print at most 1,000 rows."""
    print_answer(answer_of(rows))


def print_answer(answer: Answer, write: Callable[[bytes], object] | None = None) -> None:
    """Print at most 1,000 rows of ``answer``, as wide as the terminal, else in 80 columns.

    Args:
        answer: its rows are read.
        write: where to, as UTF-8; default: standard output.
    """
    width = shutil.get_terminal_size((80, 24)).columns
    put = (lambda text: write(text.encode())) if write else sys.stdout.write
    rows = list(islice(_rows(answer), MOST_ROWS + 1))
    if answer.names == _EXPLAINED:  # a drawing of lines
        put("".join(f"{printable_lines(plan)}\n" for _, plan in rows))
        return
    names = [printable(name) for name in answer.names]  # PIVOT makes names of values
    cells = [[_cut(cell) for cell in row] for row in rows[:MOST_ROWS]]
    if not cells and not _fits(names, cells, width):
        put("".join(f"{line}\n" for line in _folded(f"no rows; the columns are {', '.join(names)}", width)))
    elif _fits(names, cells, width):
        put(grid(names, cells, answer.numeric, width))
    else:
        put("".join(f"{line}\n" for line in records(names, cells, width)))
    if len(rows) > MOST_ROWS:
        typer.echo(f"... and more rows than {MOST_ROWS:,}; --format csv prints all", err=True)


def _rows(answer: Answer) -> Iterator[Sequence[str | None]]:
    for batch in answer.cells():
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _cut(cell: str | None) -> str:
    text = printable(cell)
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]} ... ({len(text):,} characters)"


def _fits(names: list[str], cells: list[list[str]], width: int) -> bool:
    needed = (max(_width(text) for text in column) for column in zip(names, *cells, strict=True))
    return sum(min(need, _FOLDED) + 3 for need in needed) + 1 <= width


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def grid(names: list[str], cells: list[list[str]], numeric: list[bool], width: int) -> str:
    """Return the rows as a grid; long texts are folded inside their column.

    A grid in which nothing is folded is drawn here: rich, which draws all others alike, takes a fifth of the time of
    `tailrace sql "SELECT 1"` to be imported.
    """
    if (drawn := _drawn(names, cells, numeric, width)) is not None:
        return drawn
    return folded_grid(names, cells, numeric, width)


def _drawn(names: list[str], cells: list[list[str]], numeric: list[bool], width: int) -> str | None:
    """The grid, if all texts are of plain characters and fit."""
    rows = [names, *cells]
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower()
    if not encoding.startswith("utf") or not all(t.isascii() and t.isprintable() for row in rows for t in row):
        return None
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widths) + 3 * len(widths) + 1 > width:
        return None
    bars = ["━" * (width + 2) for width in widths]

    def line(edge: str, row: list[str]) -> str:
        # rich, too, drops the spaces at the end of a text that it moves to the right
        texts = [t.rstrip().rjust(n) if right else t.ljust(n) for t, n, right in zip(row, widths, numeric, strict=True)]
        return f"{edge} {f' {edge} '.join(texts)} {edge}"

    lines = [f"┏{'┳'.join(bars)}┓", line("┃", names), f"┡{'╇'.join(bars)}┩", *(line("│", row) for row in cells)]
    return "".join(f"{each}\n" for each in [*lines, f"└{'┴'.join(bars).replace('━', '─')}┘"])


def folded_grid(names: list[str], cells: list[list[str]], numeric: list[bool], width: int) -> str:
    """As ``grid``, with texts of any characters and any length."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    made = Table()
    for number, name in enumerate(names):
        need = max(_width(text) for text in (name, *(row[number] for row in cells)))
        made.add_column(
            escape(name),
            min_width=min(need, _FOLDED),
            overflow="fold",
            justify="right" if numeric[number] else "left",
        )
    for row in cells:
        made.add_row(*map(escape, row))
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(made)
    return captured.get()


def records(names: list[str], cells: list[list[str]], width: int) -> Iterator[str]:
    """Yield lines that show each row as a record: a line a column, long values folded.

    Args:
        names: of the columns.
        cells: rows of texts.
        width: of a line, in columns of the terminal.
    """
    margin = min(max(map(_width, names)), max(width // 2, 10))
    for number, row in enumerate(cells, 1):
        yield f"-[ {number} ]".ljust(min(width, margin + 20), "-")
        for name, cell in zip(names, row, strict=True):
            label = name + " " * (margin - _width(name))
            for part in _folded(cell, max(width - margin - 2, 10)):
                yield f"{label}  {part}".rstrip()
                label = " " * margin


def _folded(text: str, width: int) -> Iterator[str]:
    """Yield ``text`` in pieces of at most ``width`` columns; between words where there are any."""
    while _width(text) > width:
        end = cut = width
        while _width(text[:end]) > width:
            end -= 1
        cut = text.rfind(" ", max(end // 2, 1), end) + 1 or end
        yield text[:cut].rstrip()
        text = text[cut:]
    yield text
