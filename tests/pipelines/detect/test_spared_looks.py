"""A look that is spared would have found nothing, and nothing would have changed by it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.alerts.finding import Finding
from pipelines.alerts.incident import Closed, Incident, Lifecycle
from pipelines.alerts.lifecycle import Timing, advance, may_change
from pipelines.detect.app_judge import LIVE, AppJudge
from pipelines.detect.detectors import View
from pipelines.detect.items import COLUMN, COLUMNS, SLOT, Batch, TickAt
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from schemas.rollups import SourceTick, Tick, series_key

SECOND = 1_000_000
T0 = 1_790_000_000 * SECOND // SLOT * SLOT
APPS = ("one", "two")
MINUTES = 50
"""Of history: spike judges after 40, surge after 30."""


@dataclass(frozen=True)
class Stretch:
    """Ten seconds of an app."""

    rate: float
    """Calls a second."""
    cost: float
    """Multiple of the usual cost of a call."""
    errors: float
    """Share."""
    stopped: float
    """Share of calls that the guardrail stopped."""
    loop: bool
    """Whether all calls are of one user."""


STRETCHES = st.builds(
    Stretch,
    st.sampled_from([0.0, 0.2, 1.0, 1.0, 2.0, 4.0, 20.0]),
    st.sampled_from([0.2, 1.0, 1.0, 1.0, 2.5, 40.0]),
    st.sampled_from([0.0, 0.01, 0.01, 0.2, 0.9]),
    st.sampled_from([0.0, 0.01, 0.01, 0.3]),
    st.booleans(),
)


def _batch(app: str, rng: np.random.Generator, stretch: Stretch, *, start: int, seconds: int, offset: int) -> Batch:
    """Rollups of ``app`` in [start, start + seconds)."""
    size = int(rng.poisson(stretch.rate * seconds))
    slots = (start + rng.integers(0, seconds * SECOND, size)) // SLOT * SLOT
    users = np.zeros(size, int) if stretch.loop else rng.integers(0, 12, size)
    calls = np.zeros((size, len(COLUMNS)), np.int64)
    calls[:, COLUMN["calls"]] = 1
    calls[:, COLUMN["cost_nanousd"]] = rng.lognormal(0, 0.5, size) * 8e6 * stretch.cost
    calls[:, COLUMN["tokens"]] = calls[:, COLUMN["cost_nanousd"]] // 10_000
    calls[:, COLUMN["errors"]] = rng.random(size) < stretch.errors
    stopped = rng.random(size) < stretch.stopped
    sums: dict[tuple[str, int], np.ndarray] = {}
    triggers: dict[tuple[str, int], int] = {}
    for slot, user, row, hit in zip(slots.tolist(), users.tolist(), calls, stopped.tolist(), strict=True):
        for pairs in ({}, {"feature": f"f{user % 3}"}, {"model": f"m{user % 2}"}, {"user": f"u{user}"}):
            key = series_key({"app": app, **pairs})[1], slot
            sums[key] = sums.get(key, 0) + row
            triggers[key] = triggers.get(key, 0) + hit
    keys = sorted(sums)
    return Batch(
        app=app,
        source=0,
        next_offset=offset,
        epoch=0,
        kafka_time=start + seconds * SECOND,
        series=[name for name, _ in keys],
        starts=np.array([slot for _, slot in keys], np.int64),
        sums=np.array([sums[key] for key in keys], np.int64).reshape(len(keys), len(COLUMNS)),
        triggers=[(i, "pii", "block", triggers[key]) for i, key in enumerate(keys) if triggers[key]],
    )


def _tick(at: int) -> TickAt:
    return TickAt(Tick(at, {0: SourceTick(1, at, at, at)}), at)


def _must_not_matter(judge: Judge, state: PartitionState, name: str) -> None:
    """Look at the open buckets of ``name`` as if nothing were spared."""
    state = load(dump(state))
    app, wall, apps = state.apps[name], state.clock.wall, AppJudge(judge.detectors, judge.timing)
    until = app.windows.latest()
    if wall - until > LIVE:
        return
    apps.learn(app)
    app.windows.lake_usd = state.highest_usd
    view = View(app.windows, 0, until)
    view.open |= app.families()
    before = copy.deepcopy(app.life)
    findings = apps._step(app, view)
    assert all(finding.weak for finding in findings)
    assert advance(app.life, findings, wall=wall, at=until, recovered={}, timing=judge.timing) == []
    assert app.life == before


@cache
def _history() -> bytes:
    """State of two apps after MINUTES, at T0."""
    rng, judge, state = np.random.default_rng(0), Judge(), PartitionState()
    usual = Stretch(1.0, 1.0, 0.01, 0.01, loop=False)
    for offset, app in enumerate(APPS):
        begin = T0 - MINUTES * 60 * SECOND
        batch = _batch(app, rng, usual, start=begin, seconds=MINUTES * 60, offset=offset + 1)
        list(judge.apply(state, offset, batch))
    list(judge.apply(state, len(APPS), _tick(T0)))
    return dump(state)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.lists(st.tuples(STRETCHES, STRETCHES), min_size=2, max_size=6))
def test_no_look_is_spared_that_would_have_found_anything(
    monkeypatch: pytest.MonkeyPatch, seed: int, stretches: list[tuple[Stretch, Stretch]]
) -> None:
    rng, judge, state, spared = np.random.default_rng(seed), Judge(), load(_history()), 0
    close_bounded = Judge._close_bounded

    def closed_bounded(judge: Judge, state: PartitionState, partition: int, offset: int) -> frozenset[str]:
        nonlocal spared
        names = close_bounded(judge, state, partition, offset)
        for name in names:
            _must_not_matter(judge, state, name)
        spared += len(names)
        return names

    with monkeypatch.context() as patch:
        patch.setattr(Judge, "_close_bounded", closed_bounded)
        for i, pair in enumerate(stretches):
            for second in range(10):
                at = T0 + (10 * i + second) * SECOND
                for app, stretch in zip(APPS, pair, strict=True):
                    batch = _batch(app, rng, stretch, start=at, seconds=1, offset=state.position)
                    if batch.series:
                        list(judge.apply(state, state.position, batch))
                list(judge.apply(state, state.position, _tick(at + SECOND)))
    assert spared > 0


def test_an_app_that_warms_up_may_have_more_guardrails_than_all_others() -> None:
    rng, judge, state = np.random.default_rng(1), Judge(), load(_history())
    stretch = Stretch(4.0, 1.0, 0.01, 0.3, loop=False)
    for second in range(15):
        at = T0 + second * SECOND
        for app, names in (("one", ("pii",)), ("new", ("pii", "toxic", "topic", "injection"))):
            batch = _batch(app, rng, stretch, start=at, seconds=1, offset=state.position)
            triggers = [(row, name, action, n) for row, _, action, n in batch.triggers for name in names]
            list(judge.apply(state, state.position, replace(batch, triggers=triggers)))
        list(judge.apply(state, state.position, _tick(at + SECOND)))
    assert len(state.apps["new"].windows.kinds) == 4


def _incident(start: int, emitted_at: int, excess: float, emitted: float) -> Incident:
    finding = Finding(
        detector="spike",
        rule="spike_cost",
        family="spend",
        severity="warning",
        measure="cost",
        target="{}",
        series={"app": "one"},
        start=start,
        end=start + SLOT,
        observed=2.0,
        expected=1.0,
        score=2.0,
        unit="USD",
    )
    incident = Incident(id="a", fingerprint="f", finding=finding, emitted_at=emitted_at, emitted_excess=emitted)
    incident.recovery.excess = excess
    return incident


@settings(max_examples=300)
@given(
    st.dictionaries(st.sampled_from(["spend", "errors"]), st.integers(0, 100_000), max_size=2),
    st.lists(st.integers(0, 100_000), max_size=2),
    st.booleans(),
    st.tuples(st.integers(0, 100_000), st.integers(0, 100_000)),
    st.tuples(st.floats(-1, 50), st.floats(-1, 50)),
)
def test_time_alone_changes_nothing_where_it_is_not_due(
    open_: dict[str, int], closed: list[int], held: bool, now: tuple[int, int], excess: tuple[float, float]
) -> None:
    life = Lifecycle(held={"spend": (1, 1)} if held else {})
    life.open = {family: _incident(start * SECOND, start * SECOND, *excess) for family, start in open_.items()}
    life.closed = {str(i): Closed(_incident(0, 0, *excess), until * SECOND) for i, until in enumerate(closed)}
    wall, at = now[0] * SECOND, now[1] * SECOND
    due, before = may_change(life, wall=wall, at=at, timing=Timing()), copy.deepcopy(life)
    emitted = advance(life, [], wall=wall, at=at, recovered={}, timing=Timing())
    assert due or (emitted == [] and life == before)
    assert not due or emitted or life != before
