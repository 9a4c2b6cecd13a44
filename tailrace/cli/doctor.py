"""``doctor``: why an event does not show."""

from __future__ import annotations

import sys
import uuid
from dataclasses import asdict
from typing import Annotated

import typer

from tailrace.cli.context import get, print_json
from tailrace.doctor import examine


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
            typer.echo(f"{'ok    ' if hop.ok else 'FAILED'}  {hop.name:10} {hop.detail}")
            if not hop.ok and hop.remedy:
                typer.echo(f"        {hop.remedy}")
    if failed:
        sys.exit(1)
