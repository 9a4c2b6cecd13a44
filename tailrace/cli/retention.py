"""``retention``: what the next run of maintain would drop."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from tailrace import wiring
from tailrace.cli.context import get, print_json
from tailrace.stages import wall
from warehouse.upkeep import OldDays, old_days


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("retention")(_retention)


def _retention(
    context: typer.Context,
    day: Annotated[
        list[str] | None, typer.Option("--keep", help="TABLE=DAYS instead of the setting, to try it; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a table, one a line.")] = False,
) -> None:
    """Count what the next run of maintain would drop by age, table by table; nothing is dropped."""
    settings = get(context).settings
    kept = dict(wiring.maintain(wiring.with_retention(settings, day or ())).retention_days)
    today = datetime.fromtimestamp(wall() / 1e6, UTC).date()
    found = old_days(wiring.lake(settings), kept, today=today)
    for each in found:
        if as_json:
            print_json({**asdict(each), "before": _day(each.before), "oldest": _day(each.oldest)})
        else:
            typer.echo(_line(each))
    if not as_json:
        rows = sum(each.rows for each in found)
        typer.echo(f"{rows:,} rows would go; `tailrace job run maintain` drops them, as its hourly run does")


def _day(day: object) -> str | None:
    return None if day is None else str(day)


def _line(each: OldDays) -> str:
    kept = "for ever" if each.keeps_days is None else f"{each.keeps_days} days"
    oldest = f"oldest {each.oldest}" if each.oldest else "empty"
    gone = f"{each.rows:,} rows of {each.days} days before {each.before} would go" if each.rows else "nothing would go"
    return f"{each.table:16} kept {kept:9} {oldest:17} {gone}, {each.left:,} rows stay"
