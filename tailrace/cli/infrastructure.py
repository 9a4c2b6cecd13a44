"""Topics, and the embedded broker by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from pipelines.clock import now_us
from schemas.errors import FatalError
from schemas.topics import LANDED
from tailrace import broker, wiring
from tailrace.cli.context import get

topics = typer.Typer(no_args_is_help=True, help="Make the topics; adopt one that was made again.")
kafka = typer.Typer(no_args_is_help=True, help="The embedded broker by itself.")


class NothingToAdoptError(FatalError):
    """The topics have the ids that are in the ledger of the lake, or were never landed."""

    def __init__(self, topics: Sequence[str]) -> None:
        super().__init__(
            f"nothing to adopt of {', '.join(topics)}: as the lake knows them, or never landed; `tailrace land` goes on"
        )


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(topics, name="topics")
    app.add_typer(kafka, name="kafka")


@topics.command("create")
def _create(context: typer.Context) -> None:
    """Make every topic that is missing; change settings of the others that a promise rests on.

    Prints the topics it made and the settings it changed. What it may not change goes to stderr with the command that
    does; exit code 1 where records would be lost.
    """
    from pipelines.kafka import Action

    here = get(context)
    created, findings = wiring.make_topics(here.settings, here.bootstrap_servers)
    for name in created:
        typer.echo(name)
    for finding in findings:
        typer.echo(finding, err=finding.action is not Action.REPAIR)
    if any(finding.action is Action.REFUSE for finding in findings):
        raise typer.Exit(1)


@topics.command("adopt")
def _adopt(
    context: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TOPIC]...", help=f"Of {', '.join(LANDED)}; without one, all.")
    ] = None,
    *,
    force: Annotated[
        bool, typer.Option("--force", help="Also where land has nothing to adopt, because only meter was cut off.")
    ] = False,
) -> None:
    """Go on under a new epoch with topics that are not the ones that were landed.

    Those that were made again go on from their first record, those that were cut from where they were cut. What was
    landed stays. Land must not run: under `up` one that refuses has ended, and tries again every 20 s.
    """
    wanted = names or LANDED
    if unknown := [topic for topic in wanted if topic not in LANDED]:
        problem = f"land reads no topic {', '.join(unknown)}; name some of {', '.join(LANDED)}"
        raise typer.BadParameter(problem, param_hint="TOPIC")
    from pipelines.land import adopt  # land's modules cost time that no other command should pay

    here = get(context)
    config = replace(wiring.land(here.settings), kafka=wiring.kafka(here.settings, here.bootstrap_servers))
    adopted = adopt(config, wanted, now=now_us, force=force)
    if not adopted:
        raise NothingToAdoptError(wanted)
    for topic, one in adopted.items():
        typer.echo(f"{topic} adopted: its id was {one.was}, now {one.now}; it goes on under epoch {one.epoch}")
    typer.echo("under `tailrace up` land and meter start again by themselves within 20 s; else start them", err=True)


@kafka.command("start")
def _start(context: typer.Context) -> None:
    """Run the broker in the foreground until SIGTERM."""
    settings = get(context).settings
    broker.serve(settings.home, heap_mb=settings.kafka.heap_mb, java_home=settings.kafka.java)


@kafka.command("stop")
def _stop(context: typer.Context) -> None:
    """Stop the broker of this home."""
    broker.stop_running(get(context).settings.home)


@kafka.command("fetch")
def _fetch(context: typer.Context, quiet: Annotated[bool, typer.Option(help="Print nothing.")] = False) -> None:
    """Download and check the broker's jars, so that the first start does not wait."""
    broker.ensure_jars(broker.default_cache(get(context).settings.home))
    if not quiet:
        typer.echo("jars present and checked")
