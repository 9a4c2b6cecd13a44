"""The detectors over a file of events: arguments from the settings, and the report on lines that are no events."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO

import typer
from rich.console import Console
from rich.progress import Progress

from pipelines.backtest import EventsConfig, Replay
from pipelines.decode import Redaction
from pipelines.decode.reasons import MAX_BYTES
from pipelines.detect.judge import Judge
from pipelines.drift.embed import ModelProcess
from pipelines.pricing import PriceBooks, default_book
from pipelines.signals import chosen
from schemas.alerts import Alert
from schemas.errors import FatalError, SettingsError
from tailrace import wiring
from tailrace.events import replay
from tailrace.files import refused
from tailrace.home.people import people
from tailrace.settings.model import Settings

STDIN = Path("-")


class NoEventError(FatalError):
    """No line of a file is an event."""

    def __init__(self, path: Path, lines: int, cause: str) -> None:
        super().__init__(f"cannot judge {path}: none of its {lines} lines is an event ({cause}); name a file of events")


def judge_events(settings: Settings, file: Path, judge: Judge, *, tick_us: int) -> list[Alert]:
    """Return the alerts of the events in ``file``, in the order in which they were raised.

    Args:
        settings: prices, rules, redaction, the model of drift.
        file: events as JSON lines, or Parquet; ``-`` is stdin.
        judge: of detect.
        tick_us: event time between two looks, µs.

    Raises:
        FileRefusedError: it cannot be read.
        SettingsError: no time between two looks, or a text signal that does not exist.
        NoEventError: it holds lines, and no event.
    """
    if not tick_us:
        raise SettingsError("--tick", "there is no time between two looks", "give at least 1s")
    config = EventsConfig(
        books=PriceBooks([default_book(settings.price_rules)], prefer=settings.cost_preference),
        judge=judge,
        rules=Redaction(people=people(settings, make=False)),
        samples_per_s=settings.meter.samples_per_s,
        signals=chosen(settings.meter.signals),
        tick_us=tick_us,
        embedder=lambda: ModelProcess(wiring.embed(settings)),
    )
    with closing(Replay(config)) as stages, _progress(file) as progress:
        alerts = list(stages.run(read_lines(file, progress)))
        _report_dead_lines(stages, file)
    return alerts


def read_lines(file: Path, progress: Callable[[int], None] = lambda size: None) -> Iterator[bytes]:
    """Yield the lines of a file of events, empty ones left out; Parquet: its column ``event``.

    A line that is longer than any event is cut, so that memory is bounded: it is refused by its size all the same.

    Args:
        file: ``-`` is stdin.
        progress: called with the bytes of each line.
    """
    if file.suffix == ".parquet":
        yield from replay.read_json_lines(file)
    elif file == STDIN:
        yield from _lines(sys.stdin.buffer, progress)
    else:
        with refused("read", file), file.open("rb") as opened:
            yield from _lines(opened, progress)


def _lines(opened: IO[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    most = MAX_BYTES + 2
    while line := opened.readline(most):
        rest = line
        while len(rest) == most and not rest.endswith(b"\n"):
            rest = opened.readline(most)
        progress(len(line))
        if line.strip():
            yield line.rstrip(b"\r\n")


def _report_dead_lines(stages: Replay, file: Path) -> None:
    number, cause = stages.first_dead or (0, "")
    if stages.lines and stages.dead == stages.lines:
        raise NoEventError(file, stages.lines, cause)
    if stages.dead:
        typer.echo(f"tailrace: {stages.dead} of {stages.lines} lines are no events; line {number}: {cause}", err=True)
    if stages.late:
        typer.echo(
            f"tailrace: {stages.late} of {stages.lines} events come more than a minute after later ones, when their "
            "windows have closed; sort the file by `ts`",
            err=True,
        )
    if stages.drift_unknown:
        typer.echo(f"tailrace: drift is unknown: {stages.drift_unknown}; the other detectors went on", err=True)


@contextmanager
def _progress(file: Path) -> Iterator[Callable[[int], None]]:
    with refused("read", file):
        size = None if file == STDIN else file.stat().st_size
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("judging", total=size)
        yield lambda read: bar.advance(task, read)
