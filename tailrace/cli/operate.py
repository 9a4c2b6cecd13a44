"""``up``, ``status`` and the stages by themselves."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import typer

from tailrace import up as supervisor
from tailrace.cli.context import get, masked, print_json
from tailrace.stages import STAGES, Stage, die_with_parent, run_stage
from tailrace.status import status


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("up")(_up)
    app.command("status")(_status)
    app.command("settings")(_settings)
    for stage in STAGES:
        app.command(stage.name, help=f"One stage: {stage.doc}.")(_stage_command(stage))


def _stage_command(stage: Stage) -> Callable[[typer.Context, bool], None]:
    def command(context: typer.Context, supervised: Annotated[bool, typer.Option(hidden=True)] = False) -> None:
        if supervised:
            die_with_parent()
        here = get(context)
        settings = here.settings
        if not settings.kafka.bootstrap_servers:
            os.environ["TAILRACE_KAFKA__BOOTSTRAP_SERVERS"] = here.bootstrap_servers
            settings = type(here)(settings.home, "INFO").settings
        run_stage(stage, settings)

    return command


def _up(
    context: typer.Context,
    no_web: Annotated[bool, typer.Option("--no-web", help="Without metrics and pages.")] = False,
) -> None:
    """Run everything on this machine: broker (unless Kafka is given), topics, every stage; restart what dies."""
    supervisor.up(get(context).settings, announce=partial(print, flush=True), web=not no_web)


def _settings(context: typer.Context) -> None:
    """Print every setting as it holds, from file, environment and defaults; secrets as ***."""
    print_json(masked(get(context).settings))


def _status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
    wait: Annotated[float, typer.Option(help="Wait so many seconds for ready; exit 1 if it does not come.")] = 0,
) -> None:
    """What runs, where it is, how far behind it is."""
    settings = get(context).settings
    deadline = time.monotonic() + wait
    found = status(settings)
    while not found["ready"] and time.monotonic() < deadline:
        time.sleep(0.2)
        found = status(settings)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{'ready' if found['ready'] else 'not ready'}  kafka {found['kafka']['bootstrap_servers']}")
        for name, stage in found["stages"].items():
            lag = "?" if stage["lag"] is None else stage["lag"]
            error = f"  {stage['error']}" if stage["error"] else ""
            typer.echo(f"  {name:8} {stage['state']:9} lag {lag}  restarts {stage['restarts']}{error}")
    if wait and not found["ready"]:
        sys.exit(1)
