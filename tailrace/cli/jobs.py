"""``job list``, ``job run``: the batch jobs, one at a time, in this process."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from schemas import faults
from tailrace.batch_jobs import JOBS
from tailrace.cli.context import get, print_json
from tailrace.supervisor.processes import end_with
from tailrace.supervisor.signals import on_stop_signals

job = typer.Typer(no_args_is_help=True, help="Batch jobs.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(job, name="job")


@job.command("list")
def _list(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the jobs and when each is due (cron, UTC)."""
    for each in JOBS:
        if as_json:
            print_json(asdict(each.line))
        else:
            typer.echo(f"{each.name:16} {each.line.cron:16} {each.line.does}")


@job.command("run")
def _run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name of `tailrace job list`.")],
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON document.")] = False,
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run one job now, while everything else goes on. Exit 1 where it found something wrong."""
    if parent:
        end_with(parent)
    found = next((each for each in JOBS if each.name == name), None)
    if found is None:
        raise typer.BadParameter(f"no job is called {name}; there are: {', '.join(each.name for each in JOBS)}")
    here = get(context)
    stop = on_stop_signals()  # heeded between two slices: there the lake is whole
    faults.point("job.before_run")
    report, text = found.run(here, stop.is_set)
    typer.echo(report.to_json() if as_json else text)
    if not report.ok:
        sys.exit(1)
