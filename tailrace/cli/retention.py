"""``retention``: what the next run of maintain would drop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from pipelines.clock import now_us
from tailrace import job_wiring, wiring
from tailrace.cli.context import get, print_json
from tailrace.cli.render.printable import printable
from warehouse.forget import OTHERS, OldApp, old_apps
from warehouse.upkeep import OldDays, old_days


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("retention")(_retention)


def _retention(
    context: typer.Context,
    day: Annotated[
        list[str] | None, typer.Option("--keep", help="TABLE=DAYS instead of the setting, to try it; may be repeated.")
    ] = None,
    app: Annotated[
        list[str] | None,
        typer.Option("--keep-app", help="APP=DAYS instead of the setting, to try it; may be repeated."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a table, then one an app with its own retention.")
    ] = False,
) -> None:
    """Count what the next run of maintain would drop by age, table by table and app by app; nothing is dropped."""
    settings = get(context).settings
    kept = job_wiring.maintain(job_wiring.with_retention(settings, day or (), app or ()))
    today = datetime.fromtimestamp(now_us() / 1e6, UTC).date()
    lake = wiring.lake(settings)
    tables = old_days(lake, kept.retention_days, today=today)
    apps = old_apps(lake, kept.app_retention_days, kept.retention_days, today=today) if kept.app_retention_days else []
    if as_json:
        for each in tables:
            print_json({**asdict(each), "before": _day(each.before), "oldest": _day(each.oldest)})
        for one in apps:
            print_json({**asdict(one), "before": str(one.before)})
        return
    for each in tables:
        typer.echo(_line(each))
    for line in _of_apps(apps):
        typer.echo(printable(line))
    rows = sum(each.rows for each in tables) + sum(sum(one.rows.values()) for one in apps)
    typer.echo(f"{rows:,} rows would go; `tailrace job run maintain` drops them, as its hourly run does")


def _day(day: object) -> str | None:
    return None if day is None else str(day)


def _line(each: OldDays) -> str:
    kept = "for ever" if each.keeps_days is None else f"{each.keeps_days} days"
    oldest = f"oldest {each.oldest}" if each.oldest else "empty"
    gone = f"{each.rows:,} rows of {each.days} days before {each.before} would go" if each.rows else "nothing would go"
    return f"{each.table:16} kept {kept:9} {oldest:17} {gone}, {each.left:,} rows stay"


def _of_apps(apps: list[OldApp]) -> Iterator[str]:
    for one in apps:
        name = "every other app" if one.app == OTHERS else f"app {one.app}"
        kept = f"{name}, kept {one.keeps_days} days"
        for table, rows in one.rows.items():
            yield f"{table:16} {kept}: {rows:,} rows before {one.before} would go"
        if not one.rows:
            yield f"{kept}: nothing would go"
