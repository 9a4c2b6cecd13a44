"""``job list``, ``job run``: the batch jobs, one at a time, in this process."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from types import FrameType
from typing import Annotated, Protocol

import typer

from jobs.duplicates import DuplicatesReport, duplicates
from jobs.maintain import MaintainReport, maintain
from jobs.schedule import COMPACT, DUPLICATES, JOBS, MAINTAIN
from schemas import faults
from tailrace import wiring
from tailrace.cli.context import get, print_json
from tailrace.settings import Settings
from tailrace.stages import die_with_parent, wall

job = typer.Typer(no_args_is_help=True, help="Batch jobs.")
Stop = Callable[[], bool]


class Report(Protocol):
    """What every job returns."""

    @property
    def ok(self) -> bool:
        """False where it found something wrong: exit 1."""

    def to_json(self) -> str:
        """Encode for ``--json``."""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(job, name="job")


@job.command("list")
def _list(as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False) -> None:
    """List the jobs and when each is due (cron, UTC)."""
    for each in JOBS:
        if as_json:
            print_json(asdict(each))
        else:
            typer.echo(f"{each.name:16} {each.cron:16} {each.does}")


@job.command("run")
def _run(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name of `tailrace job list`.")],
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON document.")] = False,
    parent: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Run one job now, while everything else goes on. Exit 1 where it found something wrong."""
    if parent:
        die_with_parent(parent)
    if name not in RUNS:
        raise typer.BadParameter(f"no job is called {name}; there are: {', '.join(RUNS)}")
    settings = get(context).settings
    stop = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()  # between two slices the lake is whole

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    faults.point("job.before_run")
    report, text = RUNS[name](settings, stop.is_set)
    typer.echo(report.to_json() if as_json else text)
    if not report.ok:
        sys.exit(1)


def _maintain(settings: Settings, stop: Stop, *, clean: bool = True) -> tuple[MaintainReport, str]:
    said = replace(wiring.maintain(settings), clean=clean)
    report = maintain(wiring.lake(settings), now=wall, settings=said, stop=stop)
    merged = sum(m.files_before - m.files_after for m in report.merged)
    first = (
        f"{'ok' if report.ok else 'FAILED'} in {report.took_s:.1f} s{'' if report.done else ', stopped early'}: "
        f"{merged} files merged away, {report.files} left; {sum(report.rows_dropped.values())} old rows dropped; "
        f"{report.snapshots_expired} snapshots expired; {report.old_files_removed} old files and "
        f"{report.orphans_removed} of {report.orphans_found} orphans deleted"
    )
    return report, "\n  ".join([first, *report.problems])


def _duplicates(settings: Settings, stop: Stop) -> tuple[DuplicatesReport, str]:
    report = duplicates(wiring.lake(settings), now=wall, stop=stop)
    text = (
        f"ok in {report.took_s:.1f} s{'' if report.done else ', stopped early'}: {report.positions} positions "
        f"compared; {report.late} late duplicates, {report.conflicts} that contradict the event that counts"
    )
    return report, text


RUNS: Mapping[str, Callable[[Settings, Stop], tuple[Report, str]]] = {
    MAINTAIN.name: _maintain,
    COMPACT.name: partial(_maintain, clean=False),
    DUPLICATES.name: _duplicates,
}
"""Every job of the timetable: from settings and ``stop`` to its report, and the same in words."""
