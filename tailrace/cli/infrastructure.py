"""Topics, and the embedded broker by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from schemas.errors import FatalError
from schemas.topics import LANDED
from tailrace import broker, wiring
from tailrace.cli.context import get
from tailrace.stages import wall

topics = typer.Typer(no_args_is_help=True, help="Make the topics; adopt one that was made again.")
kafka = typer.Typer(no_args_is_help=True, help="The embedded broker by itself.")


class NothingToAdoptError(FatalError):
    """The topic is the one the lake knows, or the lake knows none of this name yet."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"nothing to adopt: {topic} is the topic that the lake knows, or was never landed; `tailrace land` goes on"
        )


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


@topics.command("adopt")
def _adopt(
    context: typer.Context,
    topic: Annotated[str, typer.Argument(help=f"One that land reads: {', '.join(LANDED)}.")],
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also where land has nothing to adopt, because only meter was cut off.")
    ] = False,
) -> None:
    """Go on under a new epoch with a topic that was made again, from its first record, or cut, from where it was cut.

    What was landed stays. Land must not run: under `up` one that refuses the topic has ended, and tries every 20 s.
    """
    if topic not in LANDED:
        raise typer.BadParameter(f"land reads no topic {topic}; name one of {', '.join(LANDED)}", param_hint="TOPIC")
    from pipelines.land import adopt  # land's modules cost time that no other command should pay

    here = get(context)
    config = replace(wiring.land(here.settings), kafka=wiring.kafka(here.settings, here.bootstrap_servers))
    adopted = adopt(config, [topic], now=wall, force=force).get(topic)
    if adopted is None:
        raise NothingToAdoptError(topic)
    typer.echo(f"{topic} adopted: its id was {adopted.was}, now {adopted.now}; it goes on under epoch {adopted.epoch}")
    typer.echo("under `tailrace up` land and meter start again by themselves within 20 s; else start them", err=True)


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
