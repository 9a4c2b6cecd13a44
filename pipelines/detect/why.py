"""Why a series did or did not alert at one moment: the landed rollups through the live judgement, up to that moment.

The state is that of the live stage when the bucket that ends at the moment closed; the numbers are those that its
detectors compare. Pure but for the query.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from pipelines.alerts.incident import Incident
from pipelines.detect import backtest
from pipelines.detect.clock import Clock
from pipelines.detect.detectors.bands import Band, of_cold_start, of_single_call, of_spike, of_surge
from pipelines.detect.detectors.base import View
from pipelines.detect.detectors.ceiling import SingleCallLimit
from pipelines.detect.detectors.cold_start import ColdStart
from pipelines.detect.detectors.spike import Spike
from pipelines.detect.detectors.surge import Surge
from pipelines.detect.items import TickAt
from pipelines.detect.judge import AppState, Judge, PartitionState
from pipelines.detect.windows import LATENESS, SLOT
from schemas.alerts import rfc3339
from schemas.rollups import series_key

__all__ = ["Open", "Why", "explain", "replay"]


class Open(msgspec.Struct, frozen=True):
    """An incident of the app that was open, or had ended not long before."""

    id: str
    rule: str
    family: str
    series: dict[str, str]
    since: str
    until: str | None = None
    """End of one that is over."""
    reopens_until: str | None = None
    """A breach of its series until then reopens it."""


class Why(msgspec.Struct, frozen=True):
    """What a series was judged by at one moment. Times are RFC 3339 UTC."""

    series: dict[str, str]
    at: str
    judged_until: str
    """End of the last bucket that had closed: earlier than ``at`` where no record came after it."""
    known: bool
    """Whether the series had any call in what was judged."""
    monthly_usd: float | None
    """What the app spends in 30 days; None: spike does not judge."""
    worth_usd: float | None
    """USD beyond what is expected from which a rise of cost is reported: a share of that, or a floor."""
    states: tuple[str, ...]
    """In words: learning until ..., firing, grouped under ..., cooldown until ..."""
    bands: tuple[Band, ...]
    open: tuple[Open, ...]
    closed: tuple[Open, ...]


def replay(
    query: backtest.Query,
    ranges: Sequence[backtest.OffsetRange],
    judge: Judge,
    app: str,
    at: int,
) -> AppState | None:
    """Return the state of ``app`` when the bucket that ends at ``at`` (µs UTC) had closed; None: it had no rollup.

    Args:
        query: on the lake.
        ranges: of ``backtest.ranges``, from some time before ``at``.
        judge: detectors and timing, as the live stage has them.
        app: whose state.
        at: a moment.
    """
    end = at // SLOT * SLOT
    state, partition = PartitionState(clock=_Until(end=end + LATENESS)), -1
    for each in ranges:
        if each.partition != partition:
            state, partition = PartitionState(clock=_Until(end=end + LATENESS)), each.partition
        if state.clock.watermark >= end + LATENESS:
            continue
        judge.learn(state)
        state.restart_at(each.first)
        _judge(query, each, judge, state, end + LATENESS)
        if app in state.apps and state.clock.watermark >= end + LATENESS:
            break
    judge.learn(state)
    return state.apps.get(app)


class _Until(Clock):
    """A clock whose watermark stops at ``end``."""

    end: int = 0

    def apply(self, at: TickAt) -> None:
        """Apply a tick; the watermark does not pass the end."""
        super().apply(at)
        self.watermark = min(self.watermark, self.end)


def _judge(
    query: backtest.Query, stretch: backtest.OffsetRange, judge: Judge, state: PartitionState, watermark: int
) -> None:
    for first, upto in backtest.pages(query, stretch):
        for offset, item in backtest.items(query, stretch.partition, stretch.epoch, first, upto):
            for _ in judge.apply(state, offset, item):
                pass
            if state.clock.watermark >= watermark:
                return


def explain(judge: Judge, app: AppState, series: dict[str, str], at: int) -> Why:
    """Return what ``series`` of ``app`` is judged by in the windows that end with its last closed bucket."""
    windows, life = app.windows, app.life
    name = series_key(series)[1]
    view = View(windows, 0, windows.closed)
    view.open |= {f: i.finding.start for family, i in life.open.items() for f in (family, *i.followers)}
    bands = _bands(judge, app, view, name)
    opened = tuple(_open(incident) for incident in life.open.values())
    closed = tuple(
        _open(c.incident, until=c.incident.finding.end, reopens=c.until)
        for c in life.closed.values()
        if c.until > windows.closed
    )
    states = tuple([*_learning(judge, app), *_alerting(app, series, opened), *_cooling(app)])
    spike = next((d for d in judge.detectors if isinstance(d, Spike)), None)
    known = name in windows.index or name in windows.side.index
    return Why(
        series=series,
        at=rfc3339(at),
        judged_until=rfc3339(windows.closed),
        known=known,
        monthly_usd=spike.monthly_usd(app.spike, 0) if spike else None,
        worth_usd=spike.worth_usd(app.spike, 0) if spike else None,
        states=states,
        bands=tuple(bands),
        open=opened,
        closed=closed,
    )


def _bands(judge: Judge, app: AppState, view: View, name: str) -> list[Band]:
    """What each detector compares for the series ``name`` (JSON)."""
    place, bands = view.windows.index.get(name), list[Band]()
    if place is not None:
        for detector in judge.detectors:
            if isinstance(detector, Spike):
                bands += of_spike(detector, app.spike, view, place)
            elif isinstance(detector, Surge):
                bands += of_surge(detector, app.surge, view, place)
            elif isinstance(detector, SingleCallLimit):
                bands += of_single_call(detector, app.get(detector), view, place)
            elif isinstance(detector, ColdStart):
                bands += of_cold_start(detector, app.cold_start, view, place)
    for detector in judge.detectors:
        if own := getattr(detector, "bands", None):
            bands += own(app.get(detector), view, name)
    return bands


def _open(incident: Incident, *, until: int = 0, reopens: int = 0) -> Open:
    finding = incident.finding
    return Open(
        incident.id,
        finding.rule,
        finding.family,
        finding.series,
        rfc3339(finding.start),
        rfc3339(until) if until else None,
        rfc3339(reopens) if reopens else None,
    )


def _learning(judge: Judge, app: AppState) -> list[str]:
    windows, found = app.windows, []
    for detector in judge.detectors:
        warm_up_s = getattr(detector, "warm_up_s", 0.0) if isinstance(detector, Spike | Surge) else 0.0
        until = windows.first + int(warm_up_s * 1e6)
        if windows.closed < until:
            found.append(f"{detector.name} is learning until {rfc3339(until)}")
        elif isinstance(detector, Surge) and (missing := _missing_calls(detector, app)) > 0:
            found.append(f"{detector.name} is learning until {missing:,.0f} more calls")
    return found


def _missing_calls(surge: Surge, app: AppState) -> float:
    if 0 not in app.surge.places:
        return surge.min_calls
    return surge.min_calls - float(app.surge.calls[app.surge.places.index(0)].max(initial=0.0))


def _alerting(app: AppState, series: dict[str, str], opened: Sequence[Open]) -> list[str]:
    found = []
    for each in opened:
        below = dict(each.series)
        for name in ("guardrail", "signal"):
            below.pop(name, None)
        if below == series:
            found.append(f"firing {each.rule} since {each.since}: alert {each.id}")
        else:
            name = " ".join(f"{k}={v}" for k, v in below.items())
            found.append(f"{each.family} is grouped under alert {each.id} ({each.rule} of {name}) since {each.since}")
    for family, (_, since) in app.life.held.items():
        found.append(f"{family} is held back since {rfc3339(since)}: it fires if it lasts")
    return found


def _cooling(app: AppState) -> list[str]:
    now = app.windows.closed
    return [
        f"cooldown of {key.partition(' ')[0]} until {rfc3339(until)}"
        for key, until in sorted(app.life.cooling.items())
        if until > now
    ]
