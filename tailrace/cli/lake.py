"""``sql``, ``verify``, ``alerts``: questions to the lake."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import TailraceError
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.rows import Format, print_rows, shown, shown_lines, table
from warehouse.readonly import ReadOnlyLake
from warehouse.verify import verify

alerts = typer.Typer(no_args_is_help=True, help="Alerts as landed.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("sql")(_sql)
    app.command("verify")(_verify)
    app.add_typer(alerts, name="alerts")


def _sql(
    context: typer.Context,
    text: Annotated[
        str | None, typer.Argument(help="One SELECT; without it: a prompt that lists the questions.")
    ] = None,
    as_format: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="File to write instead of stdout; needed for parquet.")] = None,
) -> None:
    """Read-only SQL on the lake."""
    here = get(context)
    with open_lake(here) as lake:
        if text is None:
            _prompt(lake)
            return
        print_rows(lake.query(text), as_format, out)


def open_lake(here: Context) -> ReadOnlyLake:
    """Open the lake as a reader: it hides the originals of dead letters, and nothing can be written."""
    said = here.settings.lake
    config = replace(wiring.lake(here.settings), memory_limit=said.query_memory_limit)
    return ReadOnlyLake.open(config, timeout_s=said.query_timeout_s)


def _prompt(lake: ReadOnlyLake) -> None:
    typer.echo("Questions that are shipped, each a view (FROM name):")
    for question in lake.questions():
        name = f"{question.name}({', '.join(question.parameters)})" if question.parameters else question.name
        typer.echo(f"  {name:24} {question.doc}")
    typer.echo("One SELECT a line; an empty line or Ctrl-D ends.")
    while True:
        try:
            text = input("sql> ").strip() if sys.stdin.isatty() else (sys.stdin.readline() or "").strip()
        except EOFError:
            return
        if not text:
            return
        try:
            print_rows(lake.query(text), Format.TABLE, None)
        except TailraceError as error:
            typer.echo(shown_lines(error), err=True)


def _verify(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False
) -> None:
    """Prove the lake from its rows: every position once, gaps accounted for, ledger against data."""
    report = verify(wiring.lake(get(context).settings))
    if as_json:
        print_json(json.loads(report.to_json()))
    else:
        landed = sum(p.landed for p in report.partitions)
        buried = sum(p.dead for p in report.partitions)
        typer.echo(
            f"{'ok' if report.ok else 'FAILED'}: {landed} landed, {buried} dead; {report.late_duplicates} late "
            f"duplicates, {report.conflicts} contradictions; {len(report.problems)} problems"
        )
        for problem in report.problems:
            typer.echo(shown(f"  {problem.check}  {problem.where}: {problem.detail}"))
    if not report.ok:
        sys.exit(1)


@alerts.command("list")
def _alerts_list(
    context: typer.Context,
    as_json: Annotated[
        bool, typer.Option("--json", help="The alerts as they were sent, one JSON object a line.")
    ] = False,
    limit: Annotated[int, typer.Option(help="At most so many, the newest first.")] = 50,
) -> None:
    """List alerts as landed, a row a state change."""
    with open_lake(get(context)) as lake:
        rows = lake.query(
            "SELECT detected_at, state, severity, detector, rule, series, title, id, alert FROM alerts "
            "ORDER BY detected_at DESC, seq DESC LIMIT $1",
            [limit],
        )
    if as_json:
        # they hold strangers' texts as UTF-8: encoded again, in ASCII, none of it can be a control
        for row in rows.to_pylist():
            print_json(json.loads(row["alert"]))
    else:
        table(rows.drop_columns(["alert"]))


@alerts.command("show")
def _alerts_show(context: typer.Context, alert_id: Annotated[str, typer.Argument(help="Id of the alert.")]) -> None:
    """Show the states of one alert, and what its evidence returns now."""
    with open_lake(get(context)) as lake:
        rows = lake.query("SELECT alert FROM alerts WHERE id = $1 ORDER BY seq", [alert_id]).to_pylist()
        if not rows:
            typer.echo(f"no alert {shown(alert_id)} has landed", err=True)
            sys.exit(1)
        for row in rows:
            alert = json.loads(row["alert"])
            found = lake.query(alert["evidence"]["sql"]).to_pylist() if alert["evidence"]["sql"] else []
            print_json({**alert, "evidence_now": found})
