"""``forget``: remove what the lake holds of a user or a tenant, and say what cannot be reached."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from jobs import forget as job
from schemas.errors import SettingsError
from tailrace import audit, wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.shown import shown
from tailrace.home import Home
from tailrace.home_search import files_with
from tailrace.imports import hide_pandas
from tailrace.people import forms, keyed_hash, tenant_forms
from tailrace.settings import Settings
from tailrace.stages import wall
from warehouse.forget import NOT_REACHED, Who, count, scan


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
    are deleted by maintain, when no snapshot needs them any more. Run it again after an interruption.
    """
    here = get(context)
    settings = here.settings
    who = _who(settings, user, tenant)
    if yes and not (why and why.strip()):
        raise SettingsError("--why", "no reason is given", "say in a few words why, such as --why 'request 1234'")
    hide_pandas()
    if yes:
        _record(here, who, why or "")
        said = wiring.maintain(settings)
        done = job.run(wiring.lake(settings), who, now=wall, slice_s=said.slice_s, memory_limit=said.memory_limit)
    else:
        done = count(wiring.lake(settings), who)
    ids = [*who.users, *who.tenants]
    found = scan(wiring.lake(settings), ids) if scanned else None
    in_home = _in_home(settings, ids) if scanned else []
    gone_by = _files_gone(settings)
    if as_json:
        files = found and {"files": found.files, "live": found.live, "ended": found.ended, "home": in_home}
        facts = {
            "done": done.done,
            "rows": done.rows,
            "masked": done.masked,
            "files_gone_by": str(gone_by),
            "scan": files,
        }
        print_json({**facts, "not_reached": NOT_REACHED})
    else:
        for table, number in done.rows.items():
            typer.echo(f"{table:14} {number:>12,} rows {'went' if yes else 'would go'}")
        for table, number in done.masked.items():
            verb = "lost" if yes else "would lose"
            typer.echo(
                f"{table:14} {number:>12,} rows of others stay and {verb} a mention of the id, their calls or texts"
            )
        if found:
            typer.echo(
                f"of {found.files} files {len(found.live)} of the lake hold the id, {len(found.ended)} ended ones"
            )
            for file in found.live:
                typer.echo(shown(f"  {file}"))
            typer.echo(f"of the home's other files {len(in_home)} hold it; they are yours to delete")
            for file in in_home:
                typer.echo(shown(f"  {file}"))
        if yes:
            typer.echo(f"maintain deletes the files that held them by {gone_by}")
        else:
            typer.echo("nothing was changed; --yes --why REASON does it")
        typer.echo("not reached: " + "; ".join(NOT_REACHED))
    if (yes and not done.done) or (yes and found and found.live):
        sys.exit(1)


def _who(settings: Settings, user: str | None, tenant: str | None) -> Who:
    if not (user or tenant):
        raise SettingsError("forget", "nobody is named", "name a user (--user) or a tenant (--tenant)")
    try:
        return Who(
            tenants=tenant_forms(settings, tenant) if tenant else (), users=forms(settings, user) if user else ()
        )
    except UnicodeEncodeError:
        raise SettingsError("forget", "the id is not UTF-8", "write it as the app sends it") from None


def _record(here: Context, who: Who, why: str) -> None:
    """Write down who forgets whom and why: not under the id, which would stay."""
    named = {"user": who.users, "tenant": who.tenants}
    hashes = {kind: keyed_hash(here.settings, kind, ids) for kind, ids in named.items() if ids}
    for each in (*who.users, *who.tenants):
        if each in why:
            raise SettingsError("--why", "it holds the id, and would be kept", "leave the id out")
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    audit.record(kafka, "lake.forget", "lake", actor=audit.actor(), now=wall(), why=why, **hashes)


def _in_home(settings: Settings, ids: list[str]) -> list[str]:
    """Return the files of the home that hold an id, without the data of the lake and the embedded broker's."""
    home = Home(settings.home)
    besides = (home.data_path, home.path / "kafka")
    return [str(file) for file in files_with(home.path, ids, besides=besides)]


def _files_gone(settings: Settings) -> object:
    """Return the day by which maintain, which runs hourly, has deleted what was replaced today."""
    said = wiring.maintain(settings)
    now = datetime.fromtimestamp(wall() / 1e6, UTC)
    return (now + timedelta(hours=said.snapshots_h + 1, days=said.files_days + 1)).date()
