"""``golden``: refresh, look at, review and export the test cases that are made out of production failures."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from jobs.golden import PRODUCTION, imported, refresh
from jobs.golden.difference import difference, facts
from jobs.golden.import_cases import import_cases
from pipelines.clock import now_us
from schemas.errors import SettingsError
from tailrace import job_wiring, wiring
from tailrace.cli.context import get, print_json
from tailrace.cli.golden_cases import SetName, Version, read_cases
from tailrace.cli.lake import open_lake
from tailrace.cli.render.rows import json_lines, printable
from tailrace.files import check_new_file, new_file, refused
from tailrace.golden import reviews as sets
from tailrace.golden.files import Part, Target, exported
from tailrace.records import audit

golden = typer.Typer(no_args_is_help=True, help="Test cases out of what failed in production.")
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]

_VERSIONS = """
SELECT set_name, version, parent, cases, added, kept, dropped, candidates, near_duplicates, window_from, window_to,
    created_at, owner, content_hash, settings, coalesce(blanked, 0) AS blanked
FROM golden_versions ORDER BY set_name, version
"""
_CASES = """
SELECT c.*, r.verdict AS review, r.actor AS reviewed_by, r.expected AS review_expected, r.rubric AS review_rubric
FROM golden_cases AS c
LEFT JOIN golden_verdicts AS r ON r.case_id = c.case_id
WHERE c.set_name = $1 AND c.version = $2 AND c.input_text IS NOT NULL AND r.verdict IS DISTINCT FROM 'rejected'
ORDER BY c.case_id
"""
_SHOWN = """
SELECT c.*, r.verdict AS review, r.note AS review_note, r.expected AS review_expected, r.rubric AS review_rubric
FROM golden_cases AS c
LEFT JOIN golden_verdicts AS r ON r.case_id = c.case_id
WHERE c.set_name = $1 AND c.version = $2 ORDER BY c.stratum, c.case_id
"""
_VERSION = "SELECT * FROM golden_cases WHERE set_name = $1 AND version = $2 ORDER BY case_id"
_SHORT = 100
"""Characters of a text on a terminal."""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file, ``golden review`` and ``golden labels``."""
    from tailrace.cli.golden_labels import write_labels
    from tailrace.cli.golden_review import review

    golden.command("review")(review)
    golden.command("labels")(write_labels)
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
    from jobs.evals.scorers import Embedding

    here = get(context)
    with closing(Embedding(wiring.embed(here.settings))) as embedding:
        report = refresh(
            wiring.lake(here.settings),
            now=now_us,
            settings=job_wiring.golden(here.settings, days=days, size=size),
            set_name=sets.set_name(name),
            owner=audit.actor(),
            dry_run=dry_run,
            vectors=embedding.vectors,
        )
    typer.echo(report.to_json() if as_json else printable(report.text()))


@golden.command("versions")
def _versions(context: typer.Context, as_json: AsJson = False) -> None:
    """List the versions of all sets: where they come from, what they hold, how they were made."""
    with open_lake(get(context)) as lake:
        rows = lake.query(_VERSIONS)
    if as_json:
        typer.echo(json_lines(rows), nl=False)
        return
    if not rows.num_rows:
        typer.echo("no golden set has a version yet: `tailrace golden refresh` makes one out of what failed")
    for row in rows.to_pylist():
        summary = (
            f"{row['set_name']} {row['version']}  {row['cases']} cases: {row['added']} new, {row['kept']} kept, "
            f"{row['dropped']} dropped  of {row['candidates']} failures from {row['window_from']:%Y-%m-%d} to "
            f"{row['window_to']:%Y-%m-%d %H:%M}  by {row['owner']}"
            f"{'  without the texts of ' + str(row['blanked']) if row['blanked'] else ''}"
        )
        typer.echo(printable(summary))


@golden.command("show")
def _show(context: typer.Context, name: SetName = PRODUCTION, version: Version = None, as_json: AsJson = False) -> None:
    """Show the cases of a set, and their verdicts."""
    here = get(context)
    with open_lake(here) as lake:
        rows = sets.with_reviews(read_cases(here, lake, _SHOWN, name, version))
    if as_json:
        typer.echo(json_lines(rows), nl=False)
        return
    for row in rows.to_pylist():
        where = f"{row['app']}{'/' + row['feature'] if row['feature'] else ''}"
        typer.echo(
            printable(f"{row['case_id']}  {where}  {', '.join(row['reasons'])}  {row['review'] or 'not reviewed'}")
        )
        if row["input_text"] is None:
            typer.echo("    its texts are gone: a review rejected it")
        for what, name in (
            ("asked", "input_text"),
            ("answered", "output_text"),
            ("expected", "expected"),
            ("rubric", "rubric"),
        ):
            if row[name]:
                typer.echo(f"    {what:9} {_short(row[name])}")


def _short(text: str) -> str:
    line = printable(" ".join(text.split()))
    return line if len(line) <= _SHORT else f"{line[: _SHORT - 1]}…"


@golden.command("diff")
def _diff(
    context: typer.Context,
    old: Annotated[int, typer.Argument(min=1, help="Version.")],
    new: Annotated[int, typer.Argument(min=1, help="Another one.")],
    name: SetName = PRODUCTION,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Show what changed from version OLD of a set to version NEW: cases that came, left, or are another one now."""
    here = get(context)
    with open_lake(here) as lake:
        sides = [read_cases(here, lake, _VERSION, name, version).to_pylist() for version in (old, new)]
    found = facts(difference(*sides))
    if as_json:
        print_json({"set_name": name, "from": old, "to": new, **found})
        return
    typer.echo(
        f"{len(found['added'])} added, {len(found['removed'])} removed, {len(found['changed'])} changed, "
        f"{found['same']} the same"
    )
    for sign, key in (("+", "added"), ("-", "removed")):
        for case in found[key]:
            typer.echo(f"{sign} {printable(case['case_id'])}  {_short(case['asked'])}")
    for case in found["changed"]:
        typer.echo(printable(f"~ {case['case_id']}  {', '.join(case['what'])}"))


@golden.command("import")
def _import(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON lines, CSV, or a promptfoo configuration (YAML).")],
    name: Annotated[str, typer.Option("--set", help="Name of the golden set; not the one that the job refreshes.")],
) -> None:
    """Add the cases of an existing test set to a golden set of its own, as its next version.

    A case that the set has already is not added again, so that an import may be repeated. Texts are redacted.
    """
    here = get(context)
    if sets.set_name(name) == PRODUCTION:
        problem = f"{PRODUCTION} is made out of failures, and a refresh would drop imported cases"
        raise SettingsError("--set", problem, "name another set")
    with refused("read", file):
        text = file.read_bytes().decode("utf-8-sig", "replace")
    found = imported.read(text, file.name, set_name=name)
    done = import_cases(wiring.lake(here.settings), found.cases, set_name=name, owner=audit.actor(), now=now_us)
    typer.echo(
        printable(
            f"golden set {name}, version {done.version}: {done.added} cases added, {done.known} were there already"
        )
    )
    for kind, count in found.left_out.items():
        typer.echo(printable(f"left out: {count} assertions of type {kind}, which golden cases do not have"), err=True)


@golden.command("export")
def _export(
    context: typer.Context,
    target: Annotated[Target, typer.Option("--format", help="Who reads it.")],
    out: Annotated[Path, typer.Option(help="File to write; must not exist.")],
    name: SetName = PRODUCTION,
    version: Version = None,
    part: Annotated[
        Part, typer.Option("--split", help="Only this part: dev, heldout, or shadow (unreviewed).")
    ] = Part.ALL,
) -> None:
    """Write the cases of a set into a new file that only you can read.

    Reviews count at once: what they expect is in the file, what they rejected is not. No refresh is needed. The forms
    chat and preferences are for fine-tuning: they hold answers that a person wrote or liked, and no case that is held
    out.
    """
    check_new_file(out)
    here = get(context)
    with open_lake(here) as lake:
        rows = sets.with_reviews(read_cases(here, lake, _CASES, name, version))
    found = rows["version"][0].as_py() if rows.num_rows else version
    count, content = exported(target, part, rows)
    with new_file(out) as file:
        file.write(content)
    typer.echo(printable(f"{count} cases of golden set {name}, version {found}, written to {out}"))
