"""``golden``: refresh, look at, review and export the test cases that are made out of production failures."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.parquet as pq
import typer

from jobs.golden import PRODUCTION, openai, promptfoo, refresh
from schemas.errors import SettingsError
from tailrace import audit, wiring
from tailrace import golden as sets
from tailrace.cli.context import Context, get
from tailrace.cli.lake import open_lake
from tailrace.cli.rows import json_line, json_lines, shown
from tailrace.stages import wall
from warehouse.readonly import ReadOnlyLake

golden = typer.Typer(no_args_is_help=True, help="Test cases out of what failed in production.")
SetName = Annotated[str, typer.Option("--set", help="Name of the golden set.")]
Version = Annotated[int | None, typer.Option(min=1, help="Which version; without it the newest.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

_NEWEST = """
SELECT version FROM golden_versions WHERE set_name = $1 AND ($2::INTEGER IS NULL OR version = $2)
ORDER BY version DESC LIMIT 1
"""
_VERSIONS = """
SELECT set_name, version, parent, cases, added, kept, dropped, candidates, near_duplicates, window_from, window_to,
    created_at, owner, content_hash, settings, coalesce(blanked, 0) AS blanked
FROM golden_versions ORDER BY set_name, version
"""
_CASES = """
SELECT * FROM golden_cases WHERE set_name = $1 AND version = $2 AND input_text IS NOT NULL ORDER BY case_id
"""
_SHOWN = """
SELECT c.*, r.verdict AS review, r.note AS review_note
FROM golden_cases AS c
LEFT JOIN golden_verdicts AS r ON r.case_id = c.case_id
WHERE c.set_name = $1 AND c.version = $2 ORDER BY c.stratum, c.case_id
"""
_SHORT = 100
"""Characters of a text on a terminal."""
_KNOWN = "SELECT * FROM golden_cases WHERE case_id = $1 ORDER BY input_text IS NULL, version DESC LIMIT 1"
_REJECTED = "SELECT case_id FROM golden_rejected WHERE case_id = $1"


class Target(StrEnum):
    """Who reads an export."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    PROMPTFOO = "promptfoo"
    OPENAI = "openai"


def _plain(case: Mapping[str, Any]) -> dict[str, Any]:
    return dict(case)


_SHAPES: Mapping[Target, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    Target.JSONL: _plain,
    Target.PROMPTFOO: promptfoo,
    Target.OPENAI: openai,
}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(golden, name="golden")


@golden.command("refresh")
def _refresh(
    context: typer.Context,
    name: SetName = PRODUCTION,
    days: Annotated[int | None, typer.Option(min=1, max=90, help="Look at failures of so many days at least.")] = None,
    size: Annotated[int | None, typer.Option(min=1, max=2000, help="Cases that the set aims at.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON document.")] = False,
) -> None:
    """Make the next version of a set out of what failed: thumbs down, edits, errors, blocks, low scores, drift.

    Cases of the version before stay, but for rejected ones and for some that give room. Where nothing changed no
    version is written. Doing it twice is harmless.
    """
    here = get(context)
    report = refresh(
        wiring.lake(here.settings),
        now=wall,
        settings=wiring.golden(here.settings, days=days, size=size),
        set_name=sets.set_name(name),
        owner=audit.actor(),
        dry_run=dry_run,
    )
    typer.echo(report.to_json() if as_json else shown(report.text()))


@golden.command("versions")
def _versions(context: typer.Context, as_json: AsJson = False) -> None:
    """List the versions of all sets: where they come from, what they hold, how they were made."""
    with open_lake(get(context)) as lake:
        rows = lake.query(_VERSIONS)
    if as_json:
        typer.echo(json_lines(rows), nl=False)
        return
    for row in rows.to_pylist():
        said = (
            f"{row['set_name']} {row['version']}  {row['cases']} cases: {row['added']} new, {row['kept']} kept, "
            f"{row['dropped']} dropped  of {row['candidates']} failures from {row['window_from']:%Y-%m-%d} to "
            f"{row['window_to']:%Y-%m-%d %H:%M}  by {row['owner']}"
            f"{'  without the texts of ' + str(row['blanked']) if row['blanked'] else ''}"
        )
        typer.echo(shown(said))


@golden.command("show")
def _show(context: typer.Context, name: SetName = PRODUCTION, version: Version = None, as_json: AsJson = False) -> None:
    """Show the cases of a set, and what was said of them."""
    here = get(context)
    with open_lake(here) as lake:
        rows = _read(here, lake, _SHOWN, name, version)
    if as_json:
        typer.echo(json_lines(rows), nl=False)
        return
    for row in rows.to_pylist():
        where = f"{row['app']}{'/' + row['feature'] if row['feature'] else ''}"
        typer.echo(shown(f"{row['case_id']}  {where}  {', '.join(row['reasons'])}  {row['review'] or 'not reviewed'}"))
        if row["input_text"] is None:
            typer.echo("    its texts are gone: a review rejected it")
        for what, name in (("asked", "input_text"), ("answered", "output_text"), ("expected", "expected")):
            if row[name]:
                typer.echo(f"    {what:9} {_short(row[name])}")


def _short(text: str) -> str:
    line = shown(" ".join(text.split()))
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


@golden.command("review")
def _review(
    context: typer.Context,
    case_id: Annotated[str, typer.Argument(help="Of `tailrace golden show`.")],
    accept: Annotated[bool, typer.Option("--accept", help="It stays, or comes back, whatever else comes.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="It leaves; what says nearly the same stays out.")] = False,
    expected: Annotated[str | None, typer.Option(help="What the answer should be; '' withdraws it.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, in words.")] = None,
) -> None:
    """Say what you think of a case; the next refresh goes by it. The newest word counts.

    The texts of a rejected case are removed from all versions then: it cannot be accepted any more.
    """
    if accept == reject:
        told = "both --accept and --reject were given" if accept else "neither --accept nor --reject was given"
        raise SettingsError("golden review", f"case {case_id[:80]}: {told}", "give one of them")
    if expected is not None and reject:
        raise SettingsError("--expected", "a rejected case leaves the set", "leave it out, or --accept the case")
    here = get(context)
    with open_lake(here) as lake:
        found = lake.query(_KNOWN, [case_id]).to_pylist()
        gone = found[0]["input_text"] is None if found else lake.query(_REJECTED, [case_id]).num_rows > 0
    if accept and gone:
        raise sets.GoldenCaseGoneError(case_id)
    if not found:
        raise sets.NoGoldenCaseError(case_id, wiring.lake(here.settings).name)
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    verdict: sets.Verdict = "accepted" if accept else "rejected"
    expected = expected if expected is None or expected.strip() else ""
    sets.review(kafka, found[0], verdict, actor=audit.actor(), now=wall(), expected=expected, note=note)
    typer.echo(shown(f"{case_id} {verdict}; the next refresh goes by it"))


@golden.command("export")
def _export(
    context: typer.Context,
    target: Annotated[Target, typer.Option("--format", help="Who reads it.")],
    out: Annotated[Path, typer.Option(help="File to write; must not exist.")],
    name: SetName = PRODUCTION,
    version: Version = None,
) -> None:
    """Write the cases of a set into a new file that only you can read."""
    here = get(context)
    with open_lake(here) as lake:
        rows = _read(here, lake, _CASES, name, version)
    if target is Target.PARQUET:
        buffer = io.BytesIO()
        pq.write_table(rows, buffer, compression="zstd")
        content = buffer.getvalue()
    else:
        content = "".join(json_line(_SHAPES[target](case)) + "\n" for case in rows.to_pylist()).encode()
    _write_new(out, content)
    found = rows["version"][0].as_py() if rows.num_rows else version
    typer.echo(shown(f"{rows.num_rows} cases of golden set {name}, version {found}, written to {out}"))


def _read(here: Context, lake: ReadOnlyLake, sql: str, name: str, version: int | None) -> pa.Table:
    """Ask for the cases of a version; the newest where ``version`` is None.

    Raises:
        NoGoldenSetError: there is no such version.
    """
    newest = lake.query(_NEWEST, [sets.set_name(name), version]).to_pylist()
    if not newest:
        raise sets.NoGoldenSetError(name, version, wiring.lake(here.settings).name)
    return lake.query(sql, [name, newest[0]["version"]])


def _write_new(out: Path, content: bytes) -> None:
    """Write ``out``, which must not exist: what people wrote stands in it."""
    try:
        with open(out, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            try:
                file.write(content)
                file.flush()
            except OSError:
                out.unlink()
                raise
    except FileExistsError:
        raise SettingsError("--out", f"{out} exists", "name a new file") from None
    except OSError as error:
        problem = f"cannot write {out}: {error.strerror}"
        raise SettingsError("--out", problem, "name a file in a folder of yours, with space on its disk") from None
