"""``verify``, and how a command opens the lake."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.render.printable import printable
from warehouse.query.readonly import ReadOnlyLake
from warehouse.verify.verify import verify


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("verify")(_verify)


def open_lake(here: Context) -> ReadOnlyLake:
    """Open the lake as a reader: it hides the originals of dead letters, and nothing can be written."""
    return wiring.open_lake(here.settings)


def _verify(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False
) -> None:
    """Prove the lake from its rows: every position once, gaps accounted for, ledger against data."""
    report = verify(wiring.lake(get(context).settings))
    if as_json:
        print_json(json.loads(report.to_json()))
    else:
        landed = sum(p.landed for p in report.partitions)
        dead = sum(p.dead for p in report.partitions)
        empty = sum(p.no_record for p in report.partitions)
        typer.echo(
            f"{'ok' if report.ok else 'FAILED'}: {landed} landed, {dead} dead, {empty} without a record; "
            f"{report.late_duplicates} late duplicates, {report.conflicts} contradictions; "
            f"{len(report.problems)} problems"
        )
        for problem in report.problems:
            typer.echo(printable(f"  {problem.check}  {problem.where}: {problem.detail}"))
    if not report.ok:
        sys.exit(1)
