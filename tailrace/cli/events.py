"""``emit``, ``replay``, ``tail``: send events, and show them with their state."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from pipelines.clock import now_us
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.events import landed, replay
from tailrace.events.publish import Old, Published, in_real_time, keyed, publish

STDIN = Path("-")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("emit")(_emit)
    app.command("replay")(_replay)
    app.command("tail")(_tail)


def _emit(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="JSON lines or Parquet with a column `event`; - reads stdin.")] = STDIN,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until they have landed; print what became of each.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.")] = 60,
    history: Annotated[
        bool,
        typer.Option("--history", help="Their times are true, however old: each counts on the day of its `ts`."),
    ] = False,
) -> None:
    """Send events as they are."""
    here = get(context)
    old = Old(now_us())
    lines = (line.rstrip(b"\r\n") for line in sys.stdin.buffer) if file == STDIN else replay.read_json_lines(file)
    sent = _send(here, keyed(old.counted(line for line in lines if line)), None, history=history)
    if old.events and not history:
        typer.echo(f"tailrace: {old}", err=True)
    if not wait:
        typer.echo(f"{len(sent.positions)} events acknowledged")
        _described(sent)
        return
    rows = landed.wait_for(here.settings, set(sent.positions.values()), timeout)
    for number, position in sorted(sent.positions.items()):
        print_json({"event": number, "partition": position[0], "offset": position[1], **rows.get(position, _not_yet())})
    _described(sent)
    if any(position not in rows for position in sent.positions.values()):
        sys.exit(1)


def _described(sent: Published) -> None:
    """Name what the brokers did not take; then the command has failed."""
    for number, why in sorted(sent.errors.items()):
        typer.echo(f"tailrace: event {number} was not acknowledged: {why}; send it again", err=True)
    if sent.errors:
        sys.exit(1)


def _not_yet() -> dict[str, Any]:
    return {"table": None, "remedy": "not landed in time: see `tailrace status` and `tailrace doctor`"}


def _replay(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Events (JSON lines, Parquet) or traffic (Parquet).")],
    speed: Annotated[
        float, typer.Option(help="1 = real time, 60 = an hour in a minute, 0 = as fast as it goes.")
    ] = 1.0,
    texts: Annotated[Path | None, typer.Option(help="Folder of texts to join with traffic.")] = None,
    keep_times: Annotated[bool, typer.Option(help="Keep the file's times instead of ending now.")] = False,
    seed: Annotated[int, typer.Option(help="Draws texts, users, ids.")] = 1,
    limit: Annotated[int | None, typer.Option(help="At most so many events.")] = None,
) -> None:
    """Play a file of events or of traffic, at any speed."""
    here = get(context)
    timed = _traffic(file, texts, seed, limit, speed) if replay.is_traffic(file) else _events(file, keep_times, limit)
    sent = _send(here, in_real_time(timed, speed), limit, history=True)
    typer.echo(f"{len(sent.positions)} events acknowledged")
    _described(sent)


def _traffic(
    file: Path, folder: Path | None, seed: int, limit: int | None, speed: float
) -> Iterator[tuple[int, bytes, bytes]]:
    texts = replay.Texts.read(folder) if folder else None
    start = now_us()
    if speed == 0:  # all at once: let the last event be now, not the first
        last = max((t.after for t in replay.read_traffic(file, texts=None, seed=seed, start=0, limit=limit)), default=0)
        start -= last
    for t in replay.read_traffic(file, texts=texts, seed=seed, start=start, limit=limit):
        yield t.after, t.key, msgspec.json.encode(t.event)


def _events(file: Path, keep: bool, limit: int | None) -> Iterator[tuple[int, bytes, bytes]]:
    lines = list(replay.read_json_lines(file))[:limit]
    times = [t for t in map(replay.time_of, lines) if t is not None]
    first, last = (min(times), max(times)) if times else (0, 0)
    shift = 0 if keep else now_us() - last
    for key, line in keyed(lines):
        time_us = replay.time_of(line)
        yield (time_us or first) - first, key, replay.rebased(line, shift) if shift else line


def _send(here: Context, values: Iterator[tuple[bytes, bytes]], total: int | None, *, history: bool) -> Published:
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} events"),
    )
    with Progress(*columns, TimeElapsedColumn(), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("sending", total=total)
        config = wiring.kafka(here.settings, here.bootstrap_servers)
        return publish(config, values, history=history, progress=lambda n: bar.update(task, completed=n))


def _tail(
    context: typer.Context,
    app: Annotated[str | None, typer.Option(help="Only this app.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    seconds: Annotated[float, typer.Option(help="Stop after so many seconds; 0 = never.")] = 0,
    since: Annotated[float, typer.Option(min=0, help="Begin with what landed in the last so many seconds.")] = 0,
) -> None:
    """Show events as they land: model, tokens, cost; or why they are dead."""
    here = get(context)
    deadline = time.monotonic() + seconds if seconds else float("inf")
    begin = now_us() - int(since * 1_000_000)
    for row in landed.follow(here.settings, since=begin, until=lambda: time.monotonic() >= deadline):
        if app and row.get("app") != app:
            continue
        if as_json:
            print_json(row)
        else:
            typer.echo(landed.line(row))
