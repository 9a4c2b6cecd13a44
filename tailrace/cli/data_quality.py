"""``data-quality``: judge an hour, show what was found."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from pipelines.clock import now_us
from tailrace.cli.context import get, print_json
from tailrace.cli.render.page import Page
from tailrace.cli.render.printable import printable_lines
from tailrace.supervisor.signals import on_stop_signals
from tailrace.times import moment

data_quality = typer.Typer(no_args_is_help=True, help="What was expected of the rows of an hour, and what failed.")
_SHOWN = """
SELECT * FROM data_quality WHERE run_id = (SELECT arg_max(run_id, checked_at) FROM data_quality)
ORDER BY array_position(['failed', 'error', 'passed', 'unknown'], state), suite, expectation
"""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(data_quality, name="data-quality")


@data_quality.command("run")
def _run(
    context: typer.Context,
    hour: Annotated[
        str | None, typer.Option(help="A time in the hour to judge, such as 3h or 2026-11-18T10; default: the last.")
    ] = None,
    publish: Annotated[
        bool, typer.Option(help="Record the results and raise alerts, as the hourly job does; needs Kafka.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON document.")] = False,
) -> None:
    """Judge the rows that landed in one hour, and write Data Docs into the home. Exit 1 where something failed."""
    from tailrace.job_runs.data_quality import judge

    stop = on_stop_signals()
    report = judge(get(context), moment(hour, now_us()) if hour else None, stop=stop.is_set, publish=publish)
    if as_json:
        print_json(json.loads(report.to_json()))
    else:
        typer.echo(printable_lines(report.text()))
    if report.run.failed or not report.ok:
        sys.exit(1)


@data_quality.command("show")
def _show(
    context: typer.Context,
    failed: Annotated[bool, typer.Option("--failed", help="Only what failed or could not be judged.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what the newest recorded run found: expectation, state, and the SQL of what failed."""
    from tailrace.cli.lake import open_lake
    from tailrace.job_runs.data_quality import SITE

    here = get(context)
    with open_lake(here) as lake:
        rows = lake.query(_SHOWN).to_pylist()
    rows = [row for row in rows if not failed or row["state"] in ("failed", "error")]
    if as_json:
        for row in rows:
            print_json({**row, "checked_at": row["checked_at"].isoformat(), "hour": row["hour"].isoformat()})
        return
    page = Page()
    if not rows:
        page.line("nothing failed" if failed else "no run has landed yet: `tailrace job run data_quality`")
        return
    page.title(f"{rows[0]['hour']:%Y-%m-%d %H:%M} UTC, checked {rows[0]['checked_at']:%Y-%m-%d %H:%M} UTC")
    for row in rows:
        _line(page, row)
    page.line(f"pages: {here.home.path / SITE / 'index.html'}")


def _line(page: Page, row: dict[str, Any]) -> None:
    found = "" if row["observed"] is None else f", found {row['observed']:,.6g}"
    page.line(f"{row['state']:8} {row['suite']}.{row['expectation']}{found} {row['detail']}".rstrip())
    if row["sql"]:
        page.line(row["sql"], indent=9)
