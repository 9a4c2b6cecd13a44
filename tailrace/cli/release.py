"""``release``: mark what runs from now on, list what was marked, print the last known-good manifest."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pipelines.alerts.changes import Past, known_good
from pipelines.clock import now_us
from schemas.errors import SettingsError
from schemas.releases import Release, contents, differences
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.lake import open_lake
from tailrace.cli.render.page import Page
from tailrace.cli.render.printable import printable
from tailrace.records import audit
from tailrace.records.changed import past
from tailrace.records.decide import landed
from tailrace.records.manifest import read_manifest
from tailrace.records.release import mark_of, send
from tailrace.times import moment
from warehouse.errors import LakeMissingError

release = typer.Typer(no_args_is_help=True, help="Releases of apps: mark one, list them, see the last known-good one.")
App = Annotated[str, typer.Option("--app", help="The app, as its calls name it.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, one object a line.")]
_ENTRIES = 12


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(release, name="release")


@release.command("mark")
def _mark(
    context: typer.Context,
    app: App,
    manifest: Annotated[
        Path,
        typer.Option(
            help="YAML file: release, note, code, prompts, models, tools, retrieval, guards, golden, gate_report. "
            "An entry {file: PATH} is recorded by its hash."
        ),
    ],
    at: Annotated[str | None, typer.Option(help="When it was released: 10m ago, or a time; default: now.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Who releases it; without it the user of this machine.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Record what an app runs from now on: alerts name it among what changed. Marking it again changes nothing."""
    here, now = get(context), now_us()
    settings = here.settings  # a home that cannot be used is named before the manifest
    if not app.strip():
        raise SettingsError("--app", "it is empty", "name the app as its calls do")
    read = read_manifest(manifest)
    when = moment(at, now) if at else now
    if when > now:
        raise SettingsError("--at", "it is after now", "mark a release when it is made")
    known = _known(here, app)
    made = mark_of(app, read, known, actor=by or audit.actor(), at=when)
    is_new = all(made.id != each.id for each in known)
    there = True
    if is_new:
        send(wiring.kafka(settings, here.bootstrap_servers), made)
        there = landed(lambda: any(each.id == made.id for each in _known(here, app)))
    if as_json:
        print_json({**msgspec.to_builtins(made), "new": is_new, "landed": there})
        return
    if not is_new:
        typer.echo(printable(f"release {made.release} of {app} is current already: nothing is recorded"))
        return
    page = Page()
    page.line(f"release {made.release} of {app}{'' if there else ' (it is recorded; the lake does not show it yet)'}")
    page.fields((("manifest", made.manifest_sha256), *_entries(made, known[-1] if known else None)))


@release.command("list")
def _list(
    context: typer.Context,
    app: App,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the releases of an app, the newest first: what each changed, and which is the last known-good one."""
    found = _past(get(context), app)
    good = known_good(found.releases, found.troubles, now_us())
    pairs = list(pairwise([None, *found.releases]))[::-1][:limit]
    if as_json:
        for _, each in pairs:
            assert each is not None
            print_json({**msgspec.to_builtins(each), "known_good": each == good})
        return
    page = Page()
    for before, each in pairs:
        assert each is not None
        mark = "  last known good" if each == good else ""
        page.line(f"{each.release}  {_time(each.at)}  manifest {each.manifest_sha256[:12]}{mark}")
        page.fields(_entries(each, before))
    if not pairs:
        page.line(f"no release of {app} was marked: `tailrace release mark --app {app} --manifest FILE`")


@release.command("good")
def _good(context: typer.Context, app: App, as_json: AsJson = False) -> None:
    """Print the last known-good manifest: the newest that ran a day or longer while no alert began. Exit 1: none."""
    found = _past(get(context), app)
    good = known_good(found.releases, found.troubles, now_us())
    if good is None:
        typer.echo(printable(f"no release of {app} ran for a day without an alert"), err=True)
        sys.exit(1)
    if as_json:
        print_json(msgspec.to_builtins(good))
        return
    page = Page()
    page.title(f"release {good.release} of {app}")
    page.fields(
        (("released", _time(good.at)), ("by", good.actor), ("manifest", good.manifest_sha256), ("note", good.note))
    )
    for name, value in good.manifest.items():
        page.line(f"{name}: {value}", indent=4)


def _entries(mark: Release, before: Release | None) -> list[tuple[str, Any]]:
    changed = differences(None if before is None else before.manifest, mark.manifest)
    more = [f"and {len(changed) - _ENTRIES} more"] if len(changed) > _ENTRIES else []
    holds = contents(mark.manifest, _ENTRIES) if before is None else ""
    return [("changed", [*changed[:_ENTRIES], *more]), ("holds", holds), ("by", mark.actor), ("note", mark.note)]


def _known(here: Context, app: str) -> list[Release]:
    """Return the releases of the app; none where there is no lake yet: the first release may be marked before it."""
    try:
        return _past(here, app).releases
    except LakeMissingError:
        return []


def _past(here: Context, app: str) -> Past:
    with open_lake(here) as lake:
        return past(lake, app)


def _time(at: int) -> str:
    from pipelines.notify.times import clock, from_micros

    when = from_micros(at)
    return "" if when is None else clock(when, None)
