"""``eval``: score a sample of production calls, list the scorers, print the weekly report."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jobs.evals.markdown import to_json
from jobs.evals.scorers import SCORERS
from jobs.evals.settings import week_before
from pipelines.clock import now_us
from pipelines.notify.reports import Delivered
from schemas.errors import SettingsError
from tailrace.cli.context import get, print_json
from tailrace.cli.lake import open_lake
from tailrace.cli.render.printable import printable, printable_lines
from tailrace.files import check_new_file, new_file
from tailrace.job_runs import evals as runs
from tailrace.job_runs import weekly_report as quality
from tailrace.supervisor.signals import on_stop_signals
from tailrace.times import day

evals = typer.Typer(no_args_is_help=True, help="Scores of production calls, and the weekly report.")
_WEEK = re.compile(r"(\d{4})-?W(\d{2})")


class Shape(StrEnum):
    """How the report is printed."""

    MD = "md"
    JSON = "json"
    HTML = "html"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(evals, name="eval")


@evals.command("run")
def _run(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option("--from", help="First day, UTC; without it: Monday of last week.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day; without it: six days after the first.")] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="Name of a scorer; may be repeated. Default: all.")] = None,
    app: Annotated[list[str] | None, typer.Option(help="Only calls of this app; may be repeated.")] = None,
    size: Annotated[int | None, typer.Option(min=50, max=50_000, help="Calls to draw.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report of the run as one JSON document.")] = False,
) -> None:
    """Draw a sample of production calls, score it, publish the scores as events.

    The same days, apps and size are the same run: it goes on where it was, and what has landed is not scored again.
    """
    days = _days(since, until)
    stop = on_stop_signals()
    with _progress() as progress:
        report = runs.run_evals(
            get(context), days, names=scorer or (), apps=app or (), size=size, stop=stop.is_set, progress=progress
        )
    typer.echo(report.to_json() if as_json else printable_lines(report.text()))
    if not report.ok:
        sys.exit(1)


@evals.command("scorers")
def _scorers(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the scorers: name, who judges, version. 1 is the good end of every score."""
    for each in SCORERS:
        if as_json:
            print_json({"name": each.name, "kind": each.kind, "version": each.version})
        else:
            typer.echo(f"{each.name:18} {each.kind:10} {each.version}")


@evals.command("report")
def _report(
    context: typer.Context,
    week: Annotated[str | None, typer.Option(help="ISO week such as 2026-W47; without it: the last whole one.")] = None,
    since: Annotated[str | None, typer.Option("--from", help="First day, instead of a week.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last day.")] = None,
    shape: Annotated[Shape, typer.Option("--format", help="How it is printed.")] = Shape.MD,
    out: Annotated[Path | None, typer.Option(help="Write it to this new file instead.")] = None,
    send: Annotated[bool, typer.Option("--send", help="Send the summary to the channels as well.")] = False,
) -> None:
    """Print the weekly report: weighted means with intervals, changes, open decisions, worst calls."""
    here = get(context)
    days = week_days(week) if week else _days(since, until)
    if out:
        check_new_file(out)
    with open_lake(here) as lake:
        made = quality.make(here, lake, days)
    if shape is Shape.HTML:
        text = quality.html(made)
    else:
        text = f"{to_json(made.summary, made.alerts)}\n" if shape is Shape.JSON else quality.markdown(made)
    if out:
        with new_file(out) as file:
            file.write(text.encode("utf-8", "replace"))
        typer.echo(f"written: {out}", err=True)
    else:
        typer.echo(printable_lines(text) if shape is Shape.MD else text, nl=False)
    if send:
        _sent(quality.send(here, made, quality.write(here, made)))


def _sent(deliveries: Sequence[Delivered]) -> None:
    """Print the outcome of each channel; exit code 1 where one failed."""
    for each in deliveries:
        typer.echo(printable(f"{each.channel}: {'sent' if each.ok else 'FAILED'} ({each.detail})"), err=True)
    if not deliveries:
        typer.echo("no channel without a route is set: alert_channels (docs/reference/alert-channels.md)", err=True)
    if not all(each.ok for each in deliveries):
        sys.exit(1)


def week_days(week: str) -> tuple[date, date]:
    """Return Monday and Sunday of an ISO week.

    Raises:
        SettingsError: it is none.
    """
    found = _WEEK.fullmatch(week.strip())
    try:
        if found is None:
            raise ValueError
        monday = date.fromisocalendar(int(found[1]), int(found[2]), 1)
        return monday, monday + timedelta(days=6)
    except (ValueError, OverflowError):
        raise SettingsError("--week", f"{week[:40]!r} is no ISO week", "name one such as 2026-W47") from None


def _days(since: str | None, until: str | None) -> tuple[date, date]:
    if since is None and until is None:
        return week_before(now_us())
    if since is None:
        raise SettingsError("--from", "it is missing", "name the first day beside --to")
    first = day(since)
    last = day(until) if until else first + timedelta(days=6)
    if last < first:
        raise SettingsError("--to", f"{last} is before {first}", "name the first day with --from")
    return first, last


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("scoring", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
