"""``backtest``, and ``alerts test``: the live detectors over what has landed, by the rules as they are or might be."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from jobs.alert_quality import Effect, effect, incidents_between
from pipelines.clock import now_us
from schemas.alerts import Alert
from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.cli.context import Context, get, print_json
from tailrace.cli.lake import open_lake
from tailrace.cli.render.printable import printable
from tailrace.files import refused
from tailrace.job_runs.run_detectors_again import beginning, run_detectors_again
from tailrace.times import moment, span
from warehouse.query.readonly import ReadOnlyLake

_EMITTED = """
SELECT id, seq, alert FROM alerts WHERE detector = ANY($1)
AND epoch_us(detected_at) >= $2 AND epoch_us(detected_at) < $3
AND ($4::VARCHAR IS NULL OR json_extract_string(series, '$.app') = $4)
"""
_NEVER = 2**62
Rules = Mapping[str, Mapping[str, Any]]
"""Detector -> field -> value of what differs from the defaults."""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("backtest")(backtest)


@dataclass(frozen=True)
class _Asked:
    """Which alerts to judge, by which rules. Times are µs UTC."""

    first: int
    last: int
    app: str | None
    rules: Rules

    def chosen(self, alerts: Iterable[Alert]) -> list[Alert]:
        """Return those of ``alerts`` that are of the time and the app, in the order of their detection."""
        return sorted(
            (a for a in alerts if self.first <= _time(a) < self.last and self.app in (None, a.series.get("app"))),
            key=_order,
        )


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

    def text(self) -> str:
        """Return it as one line."""
        return (
            f"live: {self.same} the same, {self.only_live} only live, {self.only_here} only here, "
            f"{self.other_words} in other words"
        )


def backtest(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option("--from", help="Since then: 2h, 7d (ago), or a time; without it: 24h.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Until then; without it: now.")] = None,
    events: Annotated[
        Path | None,
        typer.Option(
            "--events",
            help="Judge this file of events (JSON lines; - reads stdin) or capsule, without a broker or a lake.",
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
    verdicts: Annotated[
        bool, typer.Option("--verdicts", help="Show what --set does to the alerts that people judged.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The alerts, one JSON object a line.")] = False,
) -> None:
    """Judge what has landed again: the same rollups give the same alerts under the same ids.

    They do from the first landed rollup on; later beginnings have less history. Rollups are kept for 90 days,
    ticks, which close the windows, for 14. With --compare the exit code is 1 where something differs; what is
    emitted while this runs may not have landed yet. --verdicts judges twice, with the rules as they are and with --set,
    and counts how many of the alerts that were judged noise vanish and how many useful ones stay.

    With --events the events of a file are parsed, priced, counted and judged as the stages would have done while they
    happened, drift included. They come in the order of the file, which must be that of their times. A capsule of
    `tailrace alerts export` is judged by the rules that it holds; with --compare the exit code is 1 where its alert is
    not the one that was emitted.
    """
    here = get(context)
    now = now_us()
    capsule = events is not None and is_capsule(events)
    for option, given in (("--compare", compare and not capsule), ("--verdicts", verdicts)):
        if events and given:
            raise SettingsError(option, "a file holds no alerts to compare with", "leave it out")
    since = since or ("1970-01-01" if events else "24h")
    first, last = moment(since, now), moment(until, now) if until else (_NEVER if events else now)
    if last <= first:
        raise SettingsError("--from", f"{since} is not before {until or 'now'}", "begin earlier")
    own = {} if capsule else wiring.detect_rules(here.settings)
    asked = _Asked(first, last, app, with_rules(own, to_set or []))
    if events and capsule:
        sys.exit(_of_capsule(events, asked, as_json=as_json, compare=compare))
    if events:
        _print(_of_file(here, events, asked, span(tick)), as_json=as_json)
        return
    with open_lake(here) as lake:
        begin = beginning(lake, first, first - span(warm_up))
        alerts = _of_lake(lake, asked, begin)
        difference = _difference(lake, alerts, asked) if compare else None
        effects = _effect(lake, here, asked, begin, alerts) if verdicts else None
    _print(alerts, as_json=as_json)
    if effects:
        typer.echo(f"verdicts: {effects.text()}", err=True)
    if difference:
        typer.echo(difference.text(), err=True)
    if difference and difference.any:
        sys.exit(1)


def _of_file(here: Context, events: Path, asked: _Asked, tick_us: int) -> list[Alert]:
    from pipelines.detect.detectors import configure
    from pipelines.detect.judge import Judge
    from tailrace.events.backtest import judge_events

    return asked.chosen(judge_events(here.settings, events, Judge(configure(asked.rules)), tick_us=tick_us))


def _of_capsule(file: Path, asked: _Asked, *, as_json: bool, compare: bool) -> int:
    """Print what a capsule gives by its own rules, with those of ``asked`` over them; return the exit code."""
    from tailrace.events.capsule import compared, judge_capsule

    with refused("read", file):
        data = file.read_bytes()
    capsule, alerts = judge_capsule(data, str(file), asked.rules)
    _print(asked.chosen(alerts), as_json=as_json)
    same, facts = compared(capsule, alerts), capsule.manifest
    source = f"capsule of alert {facts.alert_id}, written by Tailrace {facts.tailrace}"
    typer.echo(printable(f"{source}: {same} of {facts.states} states are those that were emitted"), err=True)
    return int(compare and same < facts.states)


def is_capsule(file: Path) -> bool:
    """Whether a file is a capsule of `tailrace alerts export`, by its first bytes.

    Raises:
        FileRefusedError: it cannot be read.
    """
    if str(file) == "-" or not file.is_file():
        return False
    with refused("read", file), file.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


def _of_lake(lake: ReadOnlyLake, asked: _Asked, begin: int) -> list[Alert]:
    with _progress() as (progress, total):
        return asked.chosen(run_detectors_again(lake, asked.rules, begin, asked.last, progress=progress, total=total))


def _effect(lake: ReadOnlyLake, here: Context, asked: _Asked, begin: int, alerts: Sequence[Alert]) -> Effect:
    """Judge again with the current rules, and compare both with the verdicts of people on the alerts."""
    as_they_are = _of_lake(lake, replace(asked, rules=wiring.detect_rules(here.settings)), begin)
    names = _detectors()
    judged = [i for i in incidents_between(lake.query, asked.first, asked.last) if i.first.detector in names]
    return effect([i for i in judged if asked.app in (None, i.first.series.get("app"))], as_they_are, alerts)


def _detectors() -> list[str]:
    from pipelines.detect.detectors import DETECTORS  # imports numpy: no other command should pay for it

    return [detector.name for detector in DETECTORS]


def _print(alerts: Sequence[Alert], *, as_json: bool) -> None:
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


def _difference(lake: ReadOnlyLake, alerts: Sequence[Alert], asked: _Asked) -> Difference:
    live: dict[tuple[str, int], set[str]] = {}
    for row in lake.query(_EMITTED, [_detectors(), asked.first, asked.last, asked.app]).to_pylist():
        live.setdefault((row["id"], row["seq"]), set()).add(_hash(row["alert"].encode()))
    here = {(alert.id, alert.seq): _hash(alert.to_json()) for alert in alerts}
    both = live.keys() & here.keys()
    same = sum(live[key] == {here[key]} for key in both)
    return Difference(same, len(live.keys() - here.keys()), len(here.keys() - live.keys()), len(both) - same)


def with_rules(rules: Rules, words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return ``rules`` with what ``words``, each ``DETECTOR.FIELD=NUMBER``, change.

    Raises:
        SettingsError: a word is none.
    """
    found = {name: dict(changes) for name, changes in rules.items()}
    for text in words:
        name, equals, value = text.partition("=")
        detector, dot, field = name.partition(".")
        if not equals or not dot:
            raise SettingsError("--set", f"{text[:40]!r} is no rule", "write DETECTOR.FIELD=NUMBER")
        try:
            found.setdefault(detector, {})[field] = json.loads(value)
        except (ValueError, RecursionError):
            found.setdefault(detector, {})[field] = value
    return found


@contextmanager
def _progress() -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("judging", total=None)
        yield (lambda judged: bar.advance(task, judged)), (lambda positions: bar.update(task, total=positions))


def _time(alert: Alert) -> int:
    return moment(alert.detected_at, 0)


def _order(alert: Alert) -> tuple[str, str, int]:
    return alert.detected_at, alert.id, alert.seq


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
