"""``upgrade --check``: what this Tailrace would change in a lake that another version wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.cli.context import get, print_json
from warehouse.pending import Pending, pending


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("upgrade")(_upgrade)


def _upgrade(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Look, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Show what the next start of land changes in the lake. Exit 2 where a newer Tailrace wrote it."""
    if not check:
        raise SettingsError("upgrade", "it does nothing without --check", "start `tailrace up`: land migrates the lake")
    found = pending(wiring.lake(get(context).settings))
    if as_json:
        print_json(asdict(found))
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(found: Pending) -> Iterator[str]:
    if found.current:
        yield f"ok: the lake is of version {found.found}, nothing would change"
        return
    yield f"ok: the lake is of version {found.found}, this Tailrace writes version {found.known}; land would"
    for what, names in (
        ("make the tables", found.tables),
        ("add the columns", found.columns),
        ("widen the types of", found.types),
        ("make the views", found.views),
    ):
        if names:
            yield f"  {what} {', '.join(names)}"
    yield "  write the views and comments again"
    yield "It is one transaction, and no row is rewritten. Back up the catalog first: it does not go back."
