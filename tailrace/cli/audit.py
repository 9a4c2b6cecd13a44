"""``audit``: what the lake holds of a tenant or a user, and where else rows of theirs may be."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from schemas.errors import SettingsError
from tailrace.cli.context import get, print_json
from tailrace.cli.lake import open_lake
from tailrace.cli.shown import shown
from warehouse.holdings import NOT_SEEN, holdings


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("audit")(_audit)


def _audit(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Id of a tenant.")] = None,
    user: Annotated[str | None, typer.Option(help="Id of a user, as calls have it: see `tailrace user id`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Count what the lake holds of a tenant or a user, table by table, and name what was not looked through."""
    if not (tenant or user):
        raise SettingsError("audit", "nobody is named", "name a tenant (--tenant) or a user (--user)")
    with open_lake(get(context)) as lake:
        found = holdings(lake, tenant=tenant, user=user)
    if as_json:
        tables = [
            {
                key: value if isinstance(value, str | int) else value and str(value)
                for key, value in asdict(each).items()
            }
            for each in found
        ]
        print_json({"tenant": tenant, "user": user, "tables": tables, "not_looked_through": NOT_SEEN})
        return
    for each in found:
        days = f"{each.first} to {each.last}" if each.rows else ""
        typer.echo(shown(f"{each.table:14} {each.rows:>12,} rows  {days}".rstrip()))
    typer.echo("not looked through: " + "; ".join(NOT_SEEN))
