"""``forget``: remove the rows of a user or a tenant from the lake, and list what it cannot reach."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import typer

from jobs import forget as job
from pipelines.clock import now_us
from schemas.errors import SettingsError
from tailrace import job_wiring, wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.person import person_of
from tailrace.cli.render.printable import printable
from tailrace.home.forget import Reached, canonical, reach
from tailrace.home.layout import Home
from tailrace.home.people import keyed_hash
from tailrace.home.search import files_with
from tailrace.imports import hide_pandas
from tailrace.records import audit
from tailrace.settings.model import Settings
from warehouse.forget import NOT_REACHED, ErasureReport, Scanned, Who, among, count, scan


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("forget")(_forget)


def _forget(
    context: typer.Context,
    user: Annotated[str | None, typer.Option(help="Id of a user, as the app names it or as a pseudonym.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Id of a tenant; with --user: only that user of it.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, rows are only counted.")] = False,
    why: Annotated[
        str | None, typer.Option(help="Reason for the audit log, without the id. Needed with --yes.")
    ] = None,
    scanned: Annotated[
        bool,
        typer.Option(
            "--scan", help="Afterwards read every Parquet file, and the home, and name files that hold the id."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Remove what the lake holds of a user or a tenant; without --yes count it, and change nothing.

    Who did it and why is recorded in `audit` before, with a keyed hash in place of the id. Files that held the rows
    are deleted by maintain, when no snapshot needs them any more. Reports of the home that name them go, and so do
    replies of the judge and answers in the gate's cache since their first call. Run it again after an interruption.
    """
    here = get(context)
    settings = here.settings
    who = person_of(settings, "forget", user, tenant)
    if yes and not (why and why.strip()):
        raise SettingsError("--why", "no reason is given", "say in a few words why, such as --why 'request 1234'")
    hide_pandas()
    lake = wiring.lake(settings)
    of_both = bool(who.users and who.tenants)  # others may have the same id, and the tenant has other users
    ids = list(who.users or who.tenants)
    if yes:
        _record(here, who, why or "")
    # before the calls go: they name the reports
    beside = reach(Home(settings.home), () if of_both else ids, lambda calls: among(lake, who, calls), remove=yes)
    if yes:
        section = job_wiring.maintain(settings)
        done = job.run(lake, who, now=now_us, slice_s=section.slice_s, memory_limit=section.memory_limit)
    else:
        done = count(lake, who)
    found = scan(lake, ids) if scanned else None
    report = _Report(done, beside, found, _in_home(settings, ids) if scanned else [], _files_gone(settings))
    if as_json:
        print_json(report.facts())
    else:
        for line in report.lines(yes=yes):
            typer.echo(printable(line))
    if yes and (not done.done or (found and found.live and not of_both)):
        sys.exit(1)


@dataclass(frozen=True)
class _Report:
    """What was done or would be, and how it is shown."""

    done: ErasureReport
    beside: Reached
    found: Scanned | None
    in_home: list[str]
    gone_by: date

    def facts(self) -> dict[str, object]:
        found = self.found
        return {
            "done": self.done.done,
            "rows": self.done.rows,
            "masked": self.done.masked,
            "files_gone_by": str(self.gone_by),
            "home": {
                "reports": [str(folder) for folder in self.beside.reports],
                "judge_replies": self.beside.replies,
                "gate_answers": self.beside.answers,
                "logs": [str(file) for file in self.beside.logs],
            },
            "scan": found and {"files": found.files, "live": found.live, "ended": found.ended, "home": self.in_home},
            "not_reached": NOT_REACHED,
        }

    def lines(self, *, yes: bool) -> Iterator[str]:
        for table, number in self.done.rows.items():
            yield f"{table:14} {number:>12,} rows {'went' if yes else 'would go'}"
        verb = "lost" if yes else "would lose"
        for table, number in self.done.masked.items():
            yield f"{table:14} {number:>12,} rows of others stay and {verb} a mention of the id, their calls or texts"
        yield from self._home(yes=yes)
        if self.found:
            yield (
                f"of {self.found.files} files {len(self.found.live)} of the lake hold the id, "
                f"{len(self.found.ended)} ended ones"
            )
            yield from (f"  {file}" for file in self.found.live)
            yield f"of the home's other files {len(self.in_home)} hold it"
            yield from (f"  {file}" for file in self.in_home)
        if yes:
            yield f"maintain deletes the files that held them by {self.gone_by}"
        else:
            yield "nothing was changed; --yes --why REASON does it"
        yield "not reached: " + "; ".join(NOT_REACHED)

    def _home(self, *, yes: bool) -> Iterator[str]:
        went = "went" if yes else "would go"
        here = self.beside
        for number, what in ((here.replies, "replies of the judge"), (here.answers, "answers of the gate's cache")):
            if number:
                yield f"{'home':14} {number:>12,} {what} {went}"
        yield from (f"{'home':14} report {folder} {went}" for folder in here.reports)
        yield from (f"{'home':14} log {file} {'lost' if yes else 'would lose'} the id" for file in here.logs)


def _record(here: Context, who: Who, why: str) -> None:
    """Record who erased which person and why: not by the id, which would then be kept."""
    named = {"user": who.users, "tenant": who.tenants}
    hashes = {kind: keyed_hash(here.settings, kind, ids) for kind, ids in named.items() if ids}
    for each in (*who.users, *who.tenants):
        if each in why:
            raise SettingsError("--why", "it holds the id, and would be kept", "leave the id out")
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    audit.record(kafka, "lake.forget", "lake", actor=audit.actor(), now=now_us(), why=why, **hashes)


def _in_home(settings: Settings, ids: list[str]) -> list[str]:
    """Return the files of the home that hold an id, without the data of the lake and the embedded broker's."""
    home = Home(settings.home)
    besides = (home.data_path, home.path / "kafka")
    return [
        str(file) for file in files_with(home.path, [form for each in ids for form in canonical(each)], besides=besides)
    ]


def _files_gone(settings: Settings) -> date:
    """Return the day by which maintain, which runs hourly, has deleted what was replaced today."""
    section = job_wiring.maintain(settings)
    now = datetime.fromtimestamp(now_us() / 1e6, UTC)
    return (now + timedelta(hours=section.snapshots_h + 1, days=section.files_days + 1)).date()
