"""``upgrade --check``: what this Tailrace would change in what another version wrote."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from schemas.errors import KafkaUnavailableError, SettingsError
from schemas.topics import TOPICS
from tailrace import wiring
from tailrace.cli.context import Context, NotRunningError, get, print_json
from warehouse.pending import Pending, pending

if TYPE_CHECKING:
    from pipelines.pending import Pending as KafkaPending


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("upgrade")(_upgrade)


def _upgrade(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Look, and change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Show what the next start of the stages changes in the lake, the topics and the states of detect and drift.

    Without a broker it shows the lake only, with a note. Exit 2 where a newer Tailrace wrote the lake, or where a
    stage of this one would refuse to start.
    """
    if not check:
        raise SettingsError("upgrade", "it does nothing without --check", "start `tailrace up`: land migrates the lake")
    here = get(context)
    found = pending(wiring.lake(here.settings))
    kafka, unasked = _kafka(here)
    if as_json:
        shown = {**asdict(kafka), "current": kafka.current} if kafka else {"not_asked": unasked}
        print_json({**asdict(found), "kafka": shown})
    else:
        for line in (*_lines(found), *(_kafka_lines(kafka) if kafka else (f"kafka: not asked: {unasked}",))):
            typer.echo(line)
    if kafka and kafka.refusals:
        raise typer.Exit(2)


def _kafka(here: Context) -> tuple[KafkaPending | None, str]:
    """Ask Kafka; return what it holds, or why it was not asked."""
    from pipelines.pending import pending as kafka_pending  # detect's modules cost time that no other command pays

    try:
        return kafka_pending(wiring.kafka(here.settings, here.bootstrap_servers), TOPICS), ""
    except (NotRunningError, KafkaUnavailableError) as error:
        return None, str(error)


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


def _kafka_lines(found: KafkaPending) -> Iterator[str]:
    if found.current:
        yield "ok: topics and the states of detect and drift are of this version, nothing would change"
    for what, lines in (
        ("topics: would be made", found.topics),
        ("topics: would be changed", found.repairs),
        ("topics: would stay as they are", found.deviations),
        ("states", found.states),
        ("refused: a stage would not start", found.refusals),
    ):
        if lines:
            yield what
            yield from (f"  {line}" for line in lines)
