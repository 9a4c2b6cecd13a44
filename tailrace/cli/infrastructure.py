"""Topics, and the embedded broker by itself."""

from __future__ import annotations

from typing import Annotated

import typer

from tailrace import broker, wiring
from tailrace.cli.context import get

topics = typer.Typer(no_args_is_help=True, help="Make the topics; adopt one that was made again.")
kafka = typer.Typer(no_args_is_help=True, help="The embedded broker by itself.")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(topics, name="topics")
    app.add_typer(kafka, name="kafka")


@topics.command("create")
def _create(context: typer.Context) -> None:
    """Make every topic that is missing; change none that exists."""
    here = get(context)
    for name in wiring.make_topics(here.settings, here.bootstrap_servers):
        typer.echo(name)


@kafka.command("start")
def _start(context: typer.Context) -> None:
    """Run the broker in the foreground until SIGTERM."""
    broker.serve(get(context).settings.home)


@kafka.command("stop")
def _stop(context: typer.Context) -> None:
    """Stop the broker of this home."""
    broker.stop_running(get(context).settings.home)


@kafka.command("fetch")
def _fetch(context: typer.Context, quiet: Annotated[bool, typer.Option(help="Print nothing.")] = False) -> None:
    """Download and check the broker's jars, so that the first start does not wait."""
    broker.ensure_jars(broker.default_cache())
    if not quiet:
        typer.echo("jars present and checked")
