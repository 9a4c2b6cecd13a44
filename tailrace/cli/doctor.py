"""``doctor``: why an event does not show."""

from __future__ import annotations

import shutil
import sys
import textwrap
import uuid
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from tailrace.cli.context import get, print_json
from tailrace.cli.render.printable import printable
from tailrace.monitor.doctor import Hop, examine

_INDENT = " " * 19


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(_doctor)


def _doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a hop.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the row.")] = 30,
) -> None:
    """Send one call and show it published, landed, priced and queryable, or which hop failed."""
    here = get(context)
    failed = False
    for hop in examine(here.settings, here.bootstrap_servers, event_id=str(uuid.uuid4()), timeout_s=timeout):
        failed = failed or not hop.ok
        if as_json:
            print_json(asdict(hop))
        else:
            for line in lines(hop, shutil.get_terminal_size().columns if sys.stdout.isatty() else None):
                typer.echo(line)
    if failed:
        sys.exit(1)


def lines(hop: Hop, width: int | None) -> Iterator[str]:
    """Yield the lines of a hop, wrapped between words at ``width``; not wrapped where it is None, as in a pipe."""
    head = f"{'ok    ' if hop.ok else 'FAILED'}  {hop.name:10} "
    for part in hop.detail.split("\n"):
        yield from _wrapped(part, width, head, _INDENT)
        head = _INDENT
    if not hop.ok and hop.remedy:
        yield from _wrapped(hop.remedy, width, " " * 8, " " * 8)


def _wrapped(text: str, width: int | None, head: str, indent: str) -> list[str]:
    clean = printable(text)
    if width is None:
        return [head + clean]
    return textwrap.wrap(
        clean, max(width, 40), initial_indent=head, subsequent_indent=indent, break_on_hyphens=False
    ) or [head.rstrip()]
