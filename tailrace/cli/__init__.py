"""One file a command group; this one puts them together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tailrace import logs
from tailrace.cli import (
    backtest,
    dead,
    demo,
    doctor,
    events,
    golden,
    infrastructure,
    jobs,
    lake,
    operate,
    people,
    prices,
)
from tailrace.cli.context import Context

app = typer.Typer(
    name="tailrace",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help=__doc__.split(";")[0],
)


@app.callback(help="Streaming analytics for LLM applications: Kafka in, live alerts and a DuckDB lake out.")
def _root(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="Folder that holds everything (TAILRACE_HOME).")] = None,
    log_level: Annotated[str, typer.Option(envvar="TAILRACE_LOG_LEVEL", help="DEBUG, INFO, WARNING, ERROR.")] = "INFO",
) -> None:
    logs.configure(stage=context.invoked_subcommand or "", level=log_level)
    context.obj = Context(home, log_level)


for group in (demo, operate, events, lake, backtest, dead, doctor, infrastructure, jobs, prices, golden, people):
    group.add_to(app)
