"""``backtest``: the live detectors over what has landed, with the rules as they are or as they might be."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from pipelines.clock import now_us
from schemas.alerts import Alert
from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.cli.context import get, print_json
from tailrace.cli.lake import open_lake
from tailrace.cli.render.printable import printable
from tailrace.times import moment, span
from warehouse.query.readonly import ReadOnlyLake

_EMITTED = """
SELECT id, seq, alert FROM alerts WHERE detector = ANY($1)
AND epoch_us(detected_at) >= $2 AND epoch_us(detected_at) < $3
AND ($4::VARCHAR IS NULL OR json_extract_string(series, '$.app') = $4)
"""
_MINUTE_US = 60_000_000
_NEVER = 2**62


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("backtest")(_backtest)


@dataclass(frozen=True)
class Difference:
    """Alert states that the live stage and the backtest emitted, compared one by one."""

    same: int
    only_live: int
    only_here: int
    other_words: int

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return bool(self.only_live or self.only_here or self.other_words)


def _backtest(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option("--from", help="Since then: 2h, 7d (ago), or a time; without it: 24h.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Until then; without it: now.")] = None,
    events: Annotated[
        Path | None,
        typer.Option(
            "--events", help="Judge this file of events (JSON lines; - reads stdin), without a broker or a lake."
        ),
    ] = None,
    warm_up: Annotated[str, typer.Option(help="Judged before it, to learn what is usual; emits nothing.")] = "1d",
    tick: Annotated[
        str, typer.Option(help="With --events: time between two looks; live it is a second, longer is faster.")
    ] = "1s",
    app: Annotated[str | None, typer.Option(help="Only alerts of this app.")] = None,
    to_set: Annotated[
        list[str] | None, typer.Option("--set", help="DETECTOR.FIELD=NUMBER, beside the rules of the settings.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show how it differs from the alerts that were emitted live.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The alerts, one JSON object a line.")] = False,
) -> None:
    """Judge what has landed again: the same rollups give the same alerts under the same ids.

    They do from the first landed rollup on; later beginnings have less history. Rollups are kept for 90 days,
    ticks, which close the windows, for 14. With --compare the exit code is 1 where something differs; what is
    emitted while this runs may not have landed yet.

    With --events the events of a file are parsed, priced, counted and judged as the stages would have done while they
    happened, drift included. They come in the order of the file, which must be that of their times.
    """
    from pipelines.detect import backtest  # imports numpy: no other command should pay for it
    from pipelines.detect.detectors import configure
    from pipelines.detect.judge import Judge

    here = get(context)
    now = now_us()
    if events and compare:
        raise SettingsError("--compare", "a file holds no alerts to compare with", "leave it out")
    since = since or ("1970-01-01" if events else "24h")
    first, last = moment(since, now), moment(until, now) if until else (_NEVER if events else now)
    if last <= first:
        raise SettingsError("--from", f"{since} is not before {until or 'now'}", "begin earlier")
    rules = wiring.detect_rules(here.settings)
    for text in to_set or []:
        detector, field, value = _rule(text)
        rules.setdefault(detector, {})[field] = value
    judge = Judge(configure(rules))
    if events:
        from tailrace.events.backtest import judge_events

        alerts = judge_events(here.settings, events, judge, tick_us=span(tick))
        _print(_chosen(alerts, first, last, app), None, as_json=as_json)
        return
    with open_lake(here) as lake:
        begin = _beginning(lake, first, first - span(warm_up))
        found = backtest.stretches(lake.query, since=begin, until=last)
        with _progress(sum(s.upto - s.first for s in found)) as progress:
            every = list(backtest.judge(lake.query, found, judge, progress=progress))
        alerts = _chosen(every, first, last, app)
        names = [detector.name for detector in judge.detectors]
        difference = _difference(lake, alerts, names, first, last, app) if compare else None
    _print(alerts, difference, as_json=as_json)
    if difference and difference.any:
        sys.exit(1)


def _chosen(alerts: Iterable[Alert], first: int, last: int, app: str | None) -> list[Alert]:
    return sorted((a for a in alerts if first <= _time(a) < last and app in (None, a.series.get("app"))), key=_order)


def _beginning(lake: ReadOnlyLake, first: int, warm_up: int) -> int:
    """Return the start of the judged period: not before the oldest tick that is kept."""
    from pipelines.detect import backtest

    rollup, tick = backtest.firsts(lake.query)
    if rollup is None or tick is None or rollup > tick - _MINUTE_US:
        return max(warm_up, 0)
    if first < tick - _MINUTE_US:
        at = datetime.fromtimestamp(tick / 1e6, UTC)
        raise SettingsError("--from", f"ticks are kept from {at:%Y-%m-%dT%H:%M:%SZ} on", "begin there, or later")
    return max(warm_up, tick)


def _print(alerts: Sequence[Alert], difference: Difference | None, *, as_json: bool) -> None:
    for alert in alerts:
        if as_json:
            print_json(json.loads(alert.to_json()))
        else:
            typer.echo(
                printable(f"{alert.detected_at}  {alert.state:8} {alert.severity:8} {alert.rule}: {alert.title}")
            )
    if not as_json:
        fired = len({alert.id for alert in alerts})
        typer.echo(f"{fired} alerts, {len(alerts)} state changes", err=True)
    if difference:
        typer.echo(
            f"live: {difference.same} the same, {difference.only_live} only live, {difference.only_here} only here, "
            f"{difference.other_words} in other words",
            err=True,
        )


def _difference(
    lake: ReadOnlyLake, alerts: Sequence[Alert], names: list[str], first: int, last: int, app: str | None
) -> Difference:
    live: dict[tuple[str, int], set[str]] = {}
    for row in lake.query(_EMITTED, [names, first, last, app]).to_pylist():
        live.setdefault((row["id"], row["seq"]), set()).add(_hash(row["alert"].encode()))
    here = {(alert.id, alert.seq): _hash(alert.to_json()) for alert in alerts}
    both = live.keys() & here.keys()
    same = sum(live[key] == {here[key]} for key in both)
    return Difference(same, len(live.keys() - here.keys()), len(here.keys() - live.keys()), len(both) - same)


def _rule(text: str) -> tuple[str, str, Any]:
    name, equals, value = text.partition("=")
    detector, dot, field = name.partition(".")
    if not equals or not dot:
        raise SettingsError("--set", f"{text[:40]!r} is no rule", "write DETECTOR.FIELD=NUMBER")
    try:
        return detector, field, json.loads(value)
    except (ValueError, RecursionError):
        return detector, field, value


@contextmanager
def _progress(positions: int) -> Iterator[Callable[[int], None]]:
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("judging", total=positions)
        yield lambda judged: bar.advance(task, judged)


def _time(alert: Alert) -> int:
    return moment(alert.detected_at, 0)


def _order(alert: Alert) -> tuple[str, str, int]:
    return alert.detected_at, alert.id, alert.seq


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
