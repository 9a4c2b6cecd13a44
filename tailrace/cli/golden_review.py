"""``golden review``: a verdict on one case, or on many, one a screen."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import click
import typer

from jobs.golden import PRODUCTION
from pipelines.clock import now_us
from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.cli.context import Context, get
from tailrace.cli.golden_cases import SetName, Version, read_cases
from tailrace.cli.lake import open_lake
from tailrace.cli.render.printable import printable
from tailrace.files import check_new_file, new_file, refused
from tailrace.golden import reviews as sets
from tailrace.golden.open_cases import OPEN, with_comments
from tailrace.golden.review import Terminal, work_through
from tailrace.golden.sheet import Filled, filled, is_sheet, sheet
from tailrace.records import audit

_KNOWN = "SELECT * FROM golden_cases WHERE case_id = $1 ORDER BY input_text IS NULL, version DESC LIMIT 1"
_REJECTED = "SELECT case_id FROM golden_rejected WHERE case_id = $1"


def review(
    context: typer.Context,
    case_id: Annotated[
        str | None, typer.Argument(help="Of `tailrace golden show`; without it all open cases, one a screen.")
    ] = None,
    accept: Annotated[bool, typer.Option("--accept", help="The case stays in the set, or comes back.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="The case and its near duplicates leave the set.")] = False,
    expected: Annotated[str | None, typer.Option(help="What the answer should be; '' withdraws it.")] = None,
    rubric: Annotated[str | None, typer.Option(help="What a good answer does, for a judge; '' withdraws it.")] = None,
    note: Annotated[str | None, typer.Option(help="Why, in words.")] = None,
    to_file: Annotated[
        Path | None, typer.Option("--to", help="Write the open cases into a new .csv or .jsonl file to be filled in.")
    ] = None,
    from_file: Annotated[Path | None, typer.Option("--from", help="Read verdicts from such a file.")] = None,
    name: SetName = PRODUCTION,
    version: Version = None,
) -> None:
    """Accept or reject cases, and write what the answer should be. Exports see it at once, the set with a refresh.

    Without CASE_ID every case that has no verdict yet is shown, with one key for each verdict; run it again to go on
    where you stopped. Or write them into a file for others (--to), and read it when its column verdict is filled in
    (--from): accept, reject, or nothing; expected is the answer as it should be, rubric what a good answer does. The
    newest verdict counts. A refresh removes the texts of rejected cases from all versions: they cannot be accepted any
    more.
    """
    here = get(context)
    if to_file or from_file:
        _sheets(here, (name, version), to_file, from_file, named=case_id is not None)
        return
    if case_id is None:
        if accept or reject or any(text is not None for text in (expected, rubric, note)):
            raise SettingsError("golden review", "no case is named", "name one: `tailrace golden show` lists them")
        _review_many(here, name, version)
        return
    _review_one(here, case_id, accept=accept, reject=reject, expected=expected, rubric=rubric, note=note)


def _review_one(
    here: Context,
    case_id: str,
    *,
    accept: bool,
    reject: bool,
    expected: str | None,
    rubric: str | None,
    note: str | None,
) -> None:
    if accept == reject:
        problem = "both --accept and --reject were given" if accept else "neither --accept nor --reject was given"
        raise SettingsError("golden review", f"case {case_id[:80]}: {problem}", "give one of them")
    if reject and (expected is not None or rubric is not None):
        option = "--rubric" if expected is None else "--expected"
        raise SettingsError(option, "a rejected case leaves the set", "leave it out, or --accept the case")
    with open_lake(here) as lake:
        found = lake.query(_KNOWN, [case_id]).to_pylist()
        rejected = found[0]["input_text"] is None if found else lake.query(_REJECTED, [case_id]).num_rows > 0
    if accept and rejected:
        raise sets.GoldenCaseGoneError(case_id)
    if not found:
        raise sets.NoGoldenCaseError(case_id, wiring.lake(here.settings).name)
    verdict: sets.Verdict = "accepted" if accept else "rejected"
    expected, rubric = (text if text is None or text.strip() else "" for text in (expected, rubric))
    record = _send(here, found[0], verdict, expected=expected, rubric=rubric, note=note)
    _wait(here, [record])
    typer.echo(printable(f"{case_id} {verdict}; exports go by it, and so does the next refresh"))


def _sheets(
    here: Context, which: tuple[str, int | None], to_file: Path | None, from_file: Path | None, *, named: bool
) -> None:
    """Write the open cases into a file, or send the verdicts of one; a file with a broken line sends none."""
    file = to_file or from_file
    assert file is not None
    option = "--to" if to_file else "--from"
    if to_file:
        check_new_file(to_file)
    else:
        with refused("read", file):
            text = file.read_bytes().decode("utf-8-sig", "replace")
    if not is_sheet(file.name):
        raise SettingsError(option, f"{file} ends neither with .csv nor with .jsonl", "name it so")
    if named or (to_file and from_file):
        raise SettingsError(option, "it is about many cases", "give it alone, without a case and another file")
    with open_lake(here) as lake:
        cases = {case["case_id"]: case for case in with_comments(read_cases(here, lake, OPEN, *which))}
    if to_file:
        with new_file(to_file) as out:
            out.write(sheet(list(cases.values()), to_file.name))
        typer.echo(printable(f"{len(cases)} open cases of golden set {which[0]} written to {to_file}"))
        return
    lines = filled(text, file.name, cases)
    records = [_send_line(here, cases[line.case_id], line) for line in lines]
    _wait(here, records)
    accepted = sum(line.verdict == "accepted" for line in lines)
    left = len(cases) - len(lines)
    typer.echo(f"{accepted} accepted, {len(lines) - accepted} rejected, {left} still open")


def _send_line(here: Context, case: Mapping[str, Any], line: Filled) -> str:
    verdict: sets.Verdict = "accepted" if line.verdict == "accepted" else "rejected"
    return _send(here, case, verdict, expected=line.expected, rubric=line.rubric, note=line.note)


def _review_many(here: Context, name: str, version: int | None) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        problem = "cases are shown one by one, which needs a terminal"
        raise SettingsError("golden review", problem, "name a case: tailrace golden review CASE_ID --accept")
    with open_lake(here) as lake:
        cases = with_comments(read_cases(here, lake, OPEN, name, version))
    if not cases:
        typer.echo(printable(f"every case of golden set {name} has a verdict"))
        return
    records: list[str] = []

    def decide(case: Mapping[str, Any], verdict: str, expected: str | None, rubric: str | None) -> None:
        answer: sets.Verdict = "accepted" if verdict == "accepted" else "rejected"
        records.append(_send(here, case, answer, expected=expected, rubric=rubric))

    try:
        done = work_through(cases, _terminal(), decide)
    finally:
        click.clear()
        _wait(here, records)
    left = len(cases) - done["accepted"] - done["rejected"]
    typer.echo(f"{done['accepted']} accepted, {done['rejected']} rejected, {left} still open")


def _send(
    here: Context, case: Mapping[str, Any], verdict: sets.Verdict, *, note: str | None = None, **texts: str | None
) -> str:
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    answer = {"expected": texts.get("expected"), "rubric": texts.get("rubric"), "note": note}
    return sets.review(kafka, case, verdict, actor=audit.actor(), now=now_us(), **answer)


def _wait(here: Context, records: list[str]) -> None:
    lake = wiring.lake(here.settings)
    if records and not sets.until_landed(lake, records, clock=time.monotonic, wait=time.sleep):
        typer.echo("tailrace: the reviews are sent and not in the lake yet: see `tailrace status`", err=True)


def _terminal() -> Terminal:
    return Terminal(key=_key, text=_text, show=_show, page=click.echo_via_pager, size=shutil.get_terminal_size)


def _key() -> str:
    try:
        return click.getchar()
    except (KeyboardInterrupt, EOFError):
        return "q"


def _text(current: str) -> str | None:
    """Let the reviewer write in $EDITOR, or one line where there is none."""
    try:
        written = click.edit(current, extension=".txt")
    except click.ClickException:
        written = click.prompt("text (empty: back)", default="", show_default=False)
    return written.strip() or None if written else None


def _show(text: str) -> None:
    click.clear()
    typer.echo(text)
