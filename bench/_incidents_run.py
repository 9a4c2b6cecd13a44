"""One world through the stages: its quiet stream once, and each incident in a fork of the state at its moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any, ClassVar

import numpy as np
from _incidents_baselines import NAMES, RULES, Alarm, Windows, alarms
from _incidents_calls import DAY, HOUR, MINUTE, SECOND, Array, lines
from _incidents_scenarios import Incident, Scenario, Slice
from _incidents_worlds import World
from _report import QUICK

from pipelines.backtest import EventsConfig, Replay
from pipelines.detect.judge import Judge
from pipelines.pricing import PriceBooks, default_book
from schemas.alerts import Alert

TICK = (30 if QUICK else 10) * SECOND
"""Event time between two ticks: delays are known to so many seconds."""
Result = dict[str, Any]


@cache
def books() -> PriceBooks:
    """Return the prices that come with the program."""
    return PriceBooks([default_book()])


@dataclass(frozen=True)
class Played:
    """What came of a stream."""

    alerts: list[Alert]
    alarms: dict[str, list[Alarm]]
    """Baseline -> its alarms."""


@dataclass
class Stream:
    """A replay, what it has emitted, and the windows of the baselines."""

    judge: ClassVar[Judge] = Judge()
    """Of every stream: the detectors and their rules."""
    tick_us: ClassVar[int] = TICK

    stages: Replay
    windows: Windows
    alerts: list[Alert]

    @classmethod
    def begin(cls, start: int, until: int, **config: Any) -> Stream:
        """Return an empty one that reaches from ``start`` to ``until``, µs UTC."""
        windows = Windows(start, -(-(until - start) // (5 * MINUTE)))
        settings: dict[str, Any] = {"books": books(), "judge": cls.judge, "samples_per_s": 0.0, "tick_us": cls.tick_us}
        return cls(Replay(EventsConfig(**settings | config, on_rollup=windows.add)), windows, [])

    def fork(self) -> Stream:
        """Return a copy that goes on by itself."""
        stages, windows = self.stages.fork(), self.windows.copy()
        stages.config = replace(stages.config, on_rollup=windows.add)
        return Stream(stages, windows, [])

    def played(self, until: int) -> Played:
        """Return what is compared with the truth, up to ``until``."""
        windows = self.windows.until(until)
        return Played(self.alerts, {name: alarms(name, windows) for name in NAMES})

    def feed(self, values: Iterable[bytes]) -> None:
        """Judge more lines."""
        self.alerts += self.stages.feed(values)


def moments(world: World, since: int, until: int, count: int, draws: np.random.Generator) -> list[int]:
    """Draw ``count`` moments in [since, until), half of them in the busier hours. µs UTC."""
    hours = np.arange(since, until, HOUR)
    calls = np.histogram(world.calls.t, np.append(hours, until))[0]
    busy = hours[calls >= np.median(calls)]
    drawn = [int(draws.choice(busy) + draws.integers(0, HOUR)) for _ in range(count // 2)]
    drawn += draws.integers(since, until, count - count // 2).tolist()
    return sorted(min(t, until - 1) for t in drawn)


def run_world(
    world: World,
    scenarios: Sequence[Scenario],
    times: Sequence[int],
    seed: int,
    *,
    config: dict[str, Any] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Iterable[Result]:
    """Yield a result for every scenario and moment, and one for the quiet stream itself."""
    start = int(world.calls.t[0])
    longest = max(s.lasts for s in scenarios)
    until = min(times[-1] + longest, int(world.calls.t[-1]) + MINUTE)
    base = Stream.begin(start, until, **(config or {}))
    now, pending = start, []
    for number, t0 in enumerate(times):
        base.feed(lines(world.calls.between(now, t0), world.naming, seed + number))
        now = t0
        for scenario in scenarios:
            if t0 + scenario.lasts > until or (scenario.lasts > 2 * HOUR and number):
                continue
            draws = np.random.default_rng([seed, number, *scenario.name.encode()])
            calls = world.calls.between(t0, t0 + scenario.lasts)
            incident = scenario.make(world, calls, draws)
            fork = base.fork()
            fork.feed(lines(incident.calls, world.naming, seed + 1000 + number))
            hits = np.sort(incident.calls.t[incident.affected])
            pending.append((scenario, t0, incident, hits, fork.played(t0 + scenario.lasts)))
        say(f"moment {number + 1} of {len(times)}")
    base.feed(lines(world.calls.between(now, until), world.naming, seed + 999))
    kept = base.played(until)
    for scenario, t0, incident, hits, played in pending:
        yield scored(scenario, t0, incident, hits, played, kept)
    if until > start + DAY // 2:
        yield quiet("before t0", base, start + DAY // 2, until)


def scored(scenario: Scenario, t0: int, incident: Incident, hits: Array, fork: Played, base: Played) -> Result:
    """Compare what was said with the truth.

    Args:
        scenario: of which this is a draw.
        t0: its start, µs UTC.
        incident: the truth about it.
        hits: times of the affected calls, ascending.
        fork: the stream with the incident.
        base: the same stream without it: what it says in the same time is luck.
    """
    where, right = incident.where, incident.where | incident.around
    until = t0 + scenario.lasts
    deadline = t0 + int(scenario.deadline_min * MINUTE)
    known = {(a.id, a.seq) for a in base.alerts}
    mine = [a for a in fork.alerts if (a.id, a.seq) not in known]
    found = [(at(a), _pairs(a), a) for a in mine if a.state == "firing" and a.rule in scenario.rules]
    first = _first(((t, p) for t, p, _ in found), right, t0, until)
    luck = [(at(a), _pairs(a)) for a in base.alerts if a.state == "firing" and a.rule in scenario.rules]
    result = {
        "kind": "draw",
        "scenario": scenario.name,
        "t0": t0,
        "where": sorted(where),
        "affected": len(hits),
        "least_min": _least_min(scenario, t0, hits),
        "tailrace": {
            **_verdict(first, deadline, t0, hits),
            "named": _is_named(first, found, where),
            "luck": _first(luck, right, t0, deadline) is not None,
            "alerts": sum(a.state == "firing" for a in mine),
            "said": [f"{(at(a) - t0) / MINUTE:.1f} {a.state} {a.rule} {_text(a)}" for a in mine][:8],
        },
    }
    measures = {RULES[rule] for rule in scenario.rules if rule in RULES}
    for name in NAMES:
        result[name] = _baseline(name, measures, incident, (t0, deadline, until), hits, fork, base)
    return result


def _least_min(scenario: Scenario, t0: int, hits: Array) -> float | None:
    """Minutes until the calls are there that an alert takes: before, nothing can find it. None = not counted."""
    if not scenario.least_calls:
        return None
    return round((hits[scenario.least_calls - 1] - t0) / MINUTE, 2) if len(hits) >= scenario.least_calls else 1e9


def _baseline(
    name: str,
    measures: set[str],
    incident: Incident,
    times: tuple[int, int, int],
    hits: Array,
    fork: Played,
    base: Played,
) -> Result:
    t0, deadline, until = times
    where, right = incident.where, incident.where | incident.around
    rings = [a for a in fork.alarms[name] if t0 < a.time]
    said = [(a.time, frozenset(_below(a))) for a in rings if a.measure in measures]
    first = _first(said, right, t0, until)
    lucky = [(a.time, frozenset(_below(a))) for a in base.alarms[name] if a.measure in measures]
    named = first is not None and (bool(first[1] & where) if where else not first[1])
    return {
        **_verdict(first, deadline, t0, hits),
        "named": named,
        "luck": _first(lucky, right, t0, deadline) is not None,
        "alerts": len(rings),
    }


def quiet(name: str, stream: Stream, since: int, until: int) -> Result:
    """Return what was raised where nothing was injected."""
    raised = [a for a in stream.alerts if a.state == "firing" and since <= at(a) < until]
    rings = {b: [a for a in alarms(b, stream.windows.until(until)) if a.time > since] for b in NAMES}
    return {
        "kind": "quiet",
        "scenario": name,
        "days": (until - since) / DAY,
        "series": len(stream.windows.index),
        "tailrace": len(raised),
        "beyond_volume": sum(a.rule not in ("spike_calls", "spike_tokens", "spike_cost") for a in raised),
        "said": [f"{(at(a) - since) / DAY:.3f} d {a.rule} {_text(a)}" for a in raised][:40],
        **{b: len(found) for b, found in rings.items()},
    }


def at(alert: Alert) -> int:
    """Return when an alert was raised, µs UTC."""
    return round(datetime.fromisoformat(alert.detected_at).timestamp() * 1e6)


def _pairs(alert: Alert) -> Slice:
    return frozenset((k, v) for k, v in alert.series.items() if k not in ("app", "guardrail", "signal", "side"))


def _below(alarm: Alarm) -> Iterable[tuple[str, str]]:
    return ((k, v) for k, v in alarm.series.items() if k != "app")


def _text(alert: Alert) -> str:
    cause = f" <- {alert.cause[0].dimension}={alert.cause[0].value}" if alert.cause else ""
    below = ",".join(f"{k}={v}" for k, v in sorted(_pairs(alert)))
    impact = alert.impact
    size = f" ({impact.calls or 0} calls, {impact.usd_per_hour or 0:.4g} USD/h, {impact.usd_so_far or 0:.4g} USD)"
    return f"{below or 'app'} {alert.observed:.4g} for {alert.expected:.4g} {alert.unit}{size}{cause}"


def _first(said: Iterable[tuple[int, Slice]], where: Slice, t0: int, until: int) -> tuple[int, Slice] | None:
    """Return the first that came in time and names no other slice than the true one, or the whole app."""
    right = (each for each in said if t0 < each[0] <= until and (not where or not each[1] or each[1] & where))
    return min(right, key=lambda each: each[0], default=None)


def _verdict(first: tuple[int, Slice] | None, deadline: int, t0: int, hits: Array) -> Result:
    if first is None:
        return {"found": False, "delay_min": None, "delay_calls": None}
    return {
        "found": first[0] <= deadline,
        "delay_min": round((first[0] - t0) / MINUTE, 2),
        "delay_calls": int(np.searchsorted(hits, first[0])),
    }


def _is_named(first: tuple[int, Slice] | None, found: Sequence[tuple[int, Slice, Alert]], where: Slice) -> bool:
    """Whether the alert that found it names the true slice: in its series, or as the first cause."""
    alert = next((a for t, pairs, a in found if first == (t, pairs)), None)
    if alert is None:
        return False
    pairs = _pairs(alert)
    if not where:
        return not pairs
    cause = {(alert.cause[0].dimension, alert.cause[0].value)} if alert.cause else set()
    return bool(pairs & where or (not pairs and cause & where))
