"""``job list``, ``job run``: the batch jobs, one at a time, in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Annotated, Protocol

import typer

from jobs.duplicates import DuplicatesReport, duplicates
from jobs.evals.job import week_before
from jobs.golden import GoldenReport, refresh
from jobs.maintain import MaintainReport, maintain
from jobs.prices import PricesReport, prices
from jobs.schedule import BUDGETS, COMPACT, DATA_QUALITY, DUPLICATES, EVALS, GOLDEN, JOBS, MAINTAIN, PRICES
from schemas import faults
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.processes import end_with
from tailrace.signals import on_stop_signals
from tailrace.stages import wall

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
        end_with(parent)
    if name not in RUNS:
        raise typer.BadParameter(f"no job is called {name}; there are: {', '.join(RUNS)}")
    here = get(context)
    stop = on_stop_signals()  # heeded between two slices: there the lake is whole
    faults.point("job.before_run")
    report, text = RUNS[name](here, stop.is_set)
    typer.echo(report.to_json() if as_json else text)
    if not report.ok:
        sys.exit(1)


def _maintain(here: Context, stop: Stop, *, clean: bool = True) -> tuple[MaintainReport, str]:
    said = replace(wiring.maintain(here.settings), clean=clean)
    report = maintain(wiring.lake(here.settings), now=wall, settings=said, stop=stop)
    merged = sum(m.files_before - m.files_after for m in report.merged)
    first = (
        f"{'ok' if report.ok else 'FAILED'} in {report.took_s:.1f} s{'' if report.done else ', stopped early'}: "
        f"{merged} files merged away, {report.files} left; {sum(report.rows_dropped.values())} old rows dropped; "
        f"{report.snapshots_expired} snapshots expired; {report.old_files_removed} old files and "
        f"{report.orphans_removed} of {report.orphans_found} orphans deleted"
    )
    return report, "\n  ".join([first, *report.problems])


def _duplicates(here: Context, stop: Stop) -> tuple[DuplicatesReport, str]:
    report = duplicates(wiring.lake(here.settings), now=wall, stop=stop)
    text = (
        f"ok in {report.took_s:.1f} s{'' if report.done else ', stopped early'}: {report.positions} positions "
        f"compared; {report.late} late duplicates, {report.conflicts} that contradict the event that counts"
    )
    return report, text


def _prices(here: Context, stop: Stop) -> tuple[PricesReport, str]:
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    report = prices(wiring.lake(here.settings), kafka, here.settings.price_rules, now=wall, stop=stop)
    did = report.repriced
    text = (
        f"ok in {did.took_s:.1f} s{'' if did.done else ', stopped early'}: book {report.book}"
        f"{', announced' if report.announced else ''}; {did.looked_at} calls looked at, {did.priced} priced that "
        f"had no cost, {did.corrected} corrected, {did.delta_usd:+} USD in all"
    )
    return report, text


def _golden(here: Context, stop: Stop) -> tuple[GoldenReport, str]:
    from jobs.evals.scorers import Embedding

    with closing(Embedding(wiring.embed(here.settings))) as embedding:
        report = refresh(
            wiring.lake(here.settings),
            now=wall,
            settings=wiring.golden(here.settings),
            stop=stop,
            vectors=embedding.vectors,
        )
    return report, report.text()


def _evals(here: Context, stop: Stop) -> tuple[Report, str]:
    from tailrace.quality import weekly

    report = weekly(here, week_before(wall()), stop=stop)
    return report, report.text()


def _data_quality(here: Context, stop: Stop) -> tuple[Report, str]:
    from tailrace.data_quality import judge

    report = judge(here, None, stop=stop)
    return report, report.text()


def _budgets(here: Context, stop: Stop) -> tuple[Report, str]:
    from tailrace.budgets import judge

    report = judge(here, stop=stop)
    return report, report.text()


RUNS: Mapping[str, Callable[[Context, Stop], tuple[Report, str]]] = {
    MAINTAIN.name: _maintain,
    COMPACT.name: partial(_maintain, clean=False),
    DUPLICATES.name: _duplicates,
    PRICES.name: _prices,
    GOLDEN.name: _golden,
    EVALS.name: _evals,
    DATA_QUALITY.name: _data_quality,
    BUDGETS.name: _budgets,
}
"""Every job of the timetable: from what the call was told and ``stop`` to its report, and the same in words."""
