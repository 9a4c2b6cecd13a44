"""``up``, ``status`` and the stages by themselves."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Annotated

import typer

from tailrace.cli.context import get, print_json
from tailrace.cli.render.status import lines
from tailrace.monitor.status import status
from tailrace.supervisor import up as supervisor
from tailrace.supervisor.processes import end_with
from tailrace.supervisor.stages import STAGES, Stage, run_stage


class StageName(StrEnum):
    """The stages, as choices of an option."""

    LAND = "land"
    METER = "meter"
    DETECT = "detect"
    DRIFT = "drift"
    NOTIFY = "notify"
    SCHEDULE = "schedule"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("up")(_up)
    app.command("status")(_status)
    for stage in STAGES:
        app.command(stage.name, help=f"One stage: {stage.doc}.")(_stage_command(stage))


def _stage_command(stage: Stage) -> Callable[[typer.Context, int], None]:
    def command(context: typer.Context, parent: Annotated[int, typer.Option(hidden=True)] = 0) -> None:
        if parent:
            end_with(parent)
        here = get(context)
        settings = here.settings
        if not settings.kafka.bootstrap_servers:
            os.environ["TAILRACE_KAFKA__BOOTSTRAP_SERVERS"] = here.bootstrap_servers
            settings = type(here)(settings.home, "INFO").settings
        run_stage(stage, settings)
        if parent:
            _end_at_once()

    return command


def _end_at_once() -> None:
    """Exit without the interpreter's own teardown: a stage has closed all it had, and freeing it takes seconds."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _up(
    context: typer.Context,
    no_web: Annotated[bool, typer.Option("--no-web", help="Without metrics and pages.")] = False,
    only: Annotated[
        list[StageName] | None, typer.Option(help="Only this stage, on a Kafka that the others share; repeatable.")
    ] = None,
    echo: Annotated[
        bool, typer.Option("--echo", help="Copy the logs of the stages to stdout, for a container's log.")
    ] = False,
) -> None:
    """Run everything on this machine: broker (unless Kafka is given), topics, every stage; restart what ends."""
    stages = tuple(stage for stage in STAGES if not only or StageName(stage.name) in only)
    announce = partial(print, flush=True)
    supervisor.up(get(context).settings, stages=stages, announce=announce, web=not no_web, echo=echo)


def _status(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
    wait: Annotated[float, typer.Option(help="Wait so many seconds for ready.")] = 0,
) -> None:
    """What runs, where it is, how far behind it is, when it will be done. Exit 1 where it is not ready."""
    settings = get(context).settings
    deadline = time.monotonic() + wait
    found = status(settings)
    while not found["ready"] and time.monotonic() < deadline:
        time.sleep(0.2)
        found = status(settings)
    if as_json:
        print_json(found)
    else:
        for line in lines(found, width=shutil.get_terminal_size((80, 24)).columns):
            typer.echo(line)
    if not found["ready"]:
        sys.exit(1)
