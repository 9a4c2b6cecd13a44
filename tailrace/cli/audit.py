"""``audit``: what the lake holds of a tenant or a user, and where else rows of theirs may be."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tailrace import wiring
from tailrace.cli.context import get, print_json
from tailrace.cli.person import person_of
from tailrace.cli.render.printable import printable
from tailrace.imports import hide_pandas
from warehouse.forget import NOT_REACHED, held


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("audit")(_audit)


def _audit(
    context: typer.Context,
    tenant: Annotated[str | None, typer.Option(help="Id of a tenant; with --user: only that user of it.")] = None,
    user: Annotated[str | None, typer.Option(help="Id of a user, as the app names it or as a pseudonym.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Count what the lake holds of a tenant or a user, table by table, and name what was not looked through.

    An id is looked for as it is given and as the pseudonym that the key of this home makes of it: what `forget` finds.
    """
    settings = get(context).settings
    hide_pandas()
    found, mentioned = held(wiring.lake(settings), person_of(settings, "audit", user, tenant))
    if as_json:
        tables = [{**asdict(each), "first": _text(each.first), "last": _text(each.last)} for each in found]
        facts = {"tenant": tenant, "user": user, "tables": tables, "mentions": mentioned}
        print_json({**facts, "not_looked_through": NOT_REACHED})
        return
    for each in found:
        days = f"{each.first} to {each.last}" if each.rows else ""
        typer.echo(printable(f"{each.table:14} {each.rows:>12,} rows  {days}".rstrip()))
    for table, rows in mentioned.items():
        typer.echo(f"{table:14} {rows:>12,} rows of others mention the id, their calls or texts")
    typer.echo("not looked through: " + "; ".join(NOT_REACHED))


def _text(day: object) -> str | None:
    return None if day is None else str(day)
