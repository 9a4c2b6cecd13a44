"""``sql``: read-only SQL on the lake, as a text, a file, a pipe or a prompt; ``attach``: the lake in other tools."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from schemas.errors import SettingsError, TailraceError
from tailrace import wiring
from tailrace.cli.context import get
from tailrace.cli.lake import open_lake
from tailrace.cli.render.grid import print_answer
from tailrace.cli.render.output import Format, new_file, opened
from tailrace.cli.render.printable import printable_lines
from warehouse.errors import QueryFailedError
from warehouse.query.answer import Answer
from warehouse.query.attach import attach_lines
from warehouse.query.readonly import ReadOnlyLake
from warehouse.query.sandbox import split

STDIN = Path("-")
_SUFFIXES = {
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".parquet": Format.PARQUET,
}
_UNFINISHED = "syntax error at end of input"


class Target(StrEnum):
    """What can open the lake by itself."""

    DUCKDB = "duckdb"
    PYTHON = "python"
    PANDAS = "pandas"
    POLARS = "polars"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("sql")(_sql)
    app.command("attach")(_attach)


def _sql(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(
            help="One SELECT or several, ended by ;. Without it: from a file, a pipe, or a prompt that lists the "
            "shipped questions."
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="Read the SQL from this file; - is stdin.")] = None,
    as_format: Annotated[
        Format | None,
        typer.Option(
            "--format", help="How to print it. Default: by the name of --out, else table. json and jsonl are the same."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout; parquet needs one.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file of --out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
) -> None:
    """Read-only SQL on the lake."""
    here = get(context)
    wanted = as_format or (Format.JSON if as_json else _SUFFIXES.get(out.suffix.lower() if out else ""))
    asked = _text(text, file)
    with open_lake(here) as lake:
        if file is None and not (asked or "").strip():
            _prompt(lake)
        else:
            run(lake, asked or "", wanted or Format.TABLE, out, force=force)


def _text(text: str | None, file: Path | None) -> str | None:
    """Return the SQL of the argument, of ``file`` or of a pipe; None where there is a terminal to ask.

    Raises:
        SettingsError: there are two of them, or the file cannot be read.
    """
    if file is None:
        return sys.stdin.buffer.read().decode(errors="surrogateescape") if _piped(text) else text
    if text is not None:
        raise SettingsError("--file", "given together with SQL on the command line", "give one of them")
    try:
        read = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
        return read.decode()
    except (OSError, UnicodeDecodeError) as error:
        problem = (isinstance(error, OSError) and error.strerror) or "not UTF-8"
        raise SettingsError("--file", f"cannot read {file}: {problem}", "name a file of SQL") from None


def _piped(text: str | None) -> bool:
    return text is None and not sys.stdin.isatty()


def run(lake: ReadOnlyLake, text: str, as_format: Format, out: Path | None, *, force: bool = False) -> None:
    """Print the answers of the statements of ``text``, one after the other; the first error ends it.

    Raises:
        SettingsError: a file is needed, exists, or would have to hold several answers.
        QueryFailedError: there is no statement, or DuckDB does not run one.
        QueryRefusedError: one would do more than read the lake.
    """
    statements = split(text)
    if not statements or not any(statements):
        raise QueryFailedError("there is no statement in it", "write a SELECT")
    if out is not None and len(statements) > 1:
        raise SettingsError("--out", f"{len(statements)} statements for one file", "run them one by one")
    if as_format is Format.PARQUET and out is None:
        raise SettingsError("--format", "parquet is not for a screen", "name a file with --out")
    if out is not None and as_format is Format.PARQUET:
        with new_file(out, force=force) as file, lake.answer(statements[0]) as answer:
            _write_parquet(answer, file)
        return
    with opened(out, force=force) as write:
        for number, statement in enumerate(statements):
            if number and as_format in (Format.CSV, Format.TABLE):
                write(b"\r\n" if as_format is Format.CSV else b"\n")
            with lake.answer(statement) as answer:
                _print(answer, as_format, write)


def _print(answer: Answer, as_format: Format, write: Callable[[bytes], object]) -> None:
    if as_format is Format.TABLE:
        print_answer(answer, write)
        return
    from tailrace.cli.render.rows import csv_bytes, json_bytes  # Arrow's functions, which a table does without

    not_finite = [0]

    def count(found: int) -> None:
        not_finite[0] += found

    for part in csv_bytes(answer) if as_format is Format.CSV else json_bytes(answer, count):
        write(part)
    if not_finite[0]:
        typer.echo(
            f"tailrace: values that are NaN or infinite: {not_finite[0]}; JSON has no such number, they are null",
            err=True,
        )


def _write_parquet(answer: Answer, file: BinaryIO) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, batches = answer.arrow()
    try:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
    except pa.ArrowNotImplementedError as error:
        raise QueryFailedError(f"Parquet has no type for a column: {error}", "cast it to VARCHAR") from None


def _attach(
    context: typer.Context,
    target: Annotated[
        Target | None, typer.Argument(help="For one of them a whole script; without it: the lines for all.")
    ] = None,
) -> None:
    """Print the lines that open the lake, read-only, in DuckDB (CLI and Python), pandas and polars."""
    config = wiring.lake(get(context).settings)
    if target is not None:
        typer.echo(attach_lines(config, target), nl=False)
        return
    typer.echo("DuckDB's command line (`tailrace attach duckdb > lake.sql`, then `duckdb -init lake.sql`):\n")
    typer.echo(attach_lines(config, "duckdb"))
    typer.echo("Python (`tailrace attach python > lake.py`; also `attach pandas`, `attach polars`):\n")
    typer.echo(attach_lines(config, "python"))
    typer.echo('pandas: lake.sql("FROM cost_daily").df()\npolars: lake.sql("FROM cost_daily").pl()')


def _prompt(lake: ReadOnlyLake) -> None:
    typer.echo("Questions that are shipped, each a view (FROM name):")
    for question in lake.questions():
        name = f"{question.name}({', '.join(question.parameters)})" if question.parameters else question.name
        typer.echo(f"  {name:24} {question.doc}")
    if not sys.stdin.isatty():
        return
    typer.echo("A line is run where it is a whole statement; an empty line or Ctrl-D ends.")
    text = ""
    while True:
        try:
            line = input("...> " if text else "sql> ")
        except EOFError:
            return
        if not line.strip() and not text:
            return
        text = f"{text}\n{line}" if text else line
        try:
            run(lake, text, Format.TABLE, None)
        except TailraceError as error:
            if line.strip() and _UNFINISHED in str(error):
                continue
            typer.echo(printable_lines(error), err=True)
        text = ""
