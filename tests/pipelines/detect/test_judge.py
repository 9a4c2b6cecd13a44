"""Whole streams through the judge: quiet stays quiet, and each planted incident is told once, on the right series."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipelines.alerts.incident import Transition
from pipelines.detect import judge as judge_module
from pipelines.detect.app_judge import AppJudge
from pipelines.detect.clock import Clock
from pipelines.detect.judge import MAX_APPS, AppState, Judge, PartitionState, judge
from pipelines.detect.snapshot import dump, load
from pipelines.detect.stretch import ALIGNED
from pipelines.detect.windows import MAX_SERIES, RING, SLOT
from schemas.alerts import Alert
from schemas.records import Record
from schemas.rollups import H_KIND, SourceTick, Tick
from tests.pipelines.detect.traffic import DAY, HOUR, SECOND, T0, App, Incident, Stream

ONSET = T0 + 30 * SECOND


def _play(stream: Stream, *, history: int = HOUR, live_s: int = 130) -> list[Record]:
    past = list(stream.records(T0 - history, T0, live=False, batch_s=300))
    return past + list(stream.records(T0, T0 + live_s * SECOND, live=True, batch_s=1))


def _planted(seed: int, **what: object) -> list[Record]:
    incident = Incident(ONSET, ONSET + 24 * SECOND, **what)  # type: ignore[arg-type]
    return _play(Stream(seed, partitions=1, incidents=(incident,)))


def _pair(alerts: Iterable[Alert]) -> tuple[Alert, Alert]:
    told = list(alerts)
    assert [a.state for a in told] == ["firing", "resolved"], [a.title for a in told]
    firing, resolved = told
    assert (resolved.id, resolved.seq, firing.seq) == (firing.id, 1, 0)
    return firing, resolved


def _delay_s(alert: Alert) -> float:
    return datetime.fromisoformat(alert.detected_at).timestamp() - ONSET / SECOND


@pytest.mark.representatives(2)
@pytest.mark.parametrize(("seed", "burst"), [(1, 0.0), (2, 0.8)])
def test_a_quiet_half_day_is_quiet_however_bursty(seed: int, burst: float) -> None:
    assert _quiet(seed, burst, DAY // 2) == []


@pytest.mark.slow
@pytest.mark.parametrize("burst", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3, 7))
def test_two_quiet_days_are_quiet_however_bursty(seed: int, burst: float) -> None:
    assert _quiet(seed, burst, 2 * DAY) == []


def _quiet(seed: int, burst: float, span: int) -> list[str]:
    """What is told of nothing but a daily shape and minutes that differ by a log-normal factor of sigma ``burst``."""
    stream = Stream(seed, apps=(App(rate=0.4, burst=burst, cycle=1.0),), partitions=1)
    return [a.title for a in judge(stream.records(T0 - span, T0, live=False, batch_s=900))]


@pytest.mark.parametrize("seed", [3, 4])
def test_a_runaway_user_is_one_incident_named_after_the_user(seed: int) -> None:
    firing, resolved = _pair(judge(_planted(seed, user="u-77", rate=8)))
    assert (firing.rule, firing.series) == ("spike_cost", {"app": "bot", "user": "u-77"})
    assert _delay_s(firing) < 15
    assert firing.cause[0].value == "u-77"
    assert firing.evidence.call_ids
    assert resolved.observed > firing.observed


@pytest.mark.parametrize("action", ["flag", "block"])
def test_a_guardrail_surge_is_one_incident_whatever_it_does_to_other_shares(action: str) -> None:
    firing, _ = _pair(judge(_planted(6, guardrail="pii", share=0.4, action=action)))
    assert (firing.rule, firing.series) == ("surge_guardrail", {"app": "bot", "guardrail": "pii"})
    assert 0.2 < firing.observed < 0.6
    assert firing.expected < 0.03


def test_ten_times_the_cost_at_ten_calls_a_second_is_told_within_thirty_seconds() -> None:
    stream = Stream(
        7, apps=(App(rate=1.0, cycle=0.0),), partitions=1, incidents=(Incident(ONSET, ONSET + DAY, factor=10),)
    )
    firing = next(judge(_play(stream, live_s=65)))
    assert (firing.rule, firing.series) == ("spike_cost", {"app": "bot"})
    assert _delay_s(firing) <= 30


def test_stopping_anywhere_and_going_on_from_the_snapshot_changes_nothing() -> None:
    records = _planted(8, user="u-77", rate=8)
    whole = list(judge(records))
    judge_, state, told = Judge(), PartitionState(), []
    for i, record in enumerate(records):
        if i % 17 == 0:
            data = dump(state)
            state = load(data)
            assert dump(state) == data
            # a replayed prefix is recognised by its position
            for old in records[max(0, i - 5) : i]:
                state, again = judge_.step(state, old)
                assert again == []
        state, alerts = judge_.step(state, record)
        told += alerts
    assert told == whole


def _backlog(seed: int, hours: int, *incidents: Incident, **app: float) -> list[Record]:
    """A past that is all read before the first tick, which closes it at once."""
    stream = Stream(seed, apps=(App(**app),), partitions=1, incidents=incidents)  # type: ignore[arg-type]
    records = list(stream.records(T0 - hours * HOUR, T0, live=False, batch_s=900))
    return [r for r in records if r.key != b"*"] + [records[-1]]


@pytest.mark.extended
def test_a_tick_that_closes_hours_is_judged_in_slices_that_may_be_interrupted_anywhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spell = Incident(T0 - HOUR, T0 - HOUR + 300 * SECOND, factor=10)
    records = _backlog(31, 3, spell, rate=0.2, cost=0.05)
    expected = list(judge(records))
    assert [a.state for a in expected] == ["firing", "resolved"]
    monkeypatch.setattr(judge_module, "SLICE", 1)
    judge_, state, told, slices = Judge(), PartitionState(), [], 0
    for record in records:
        while state.position <= record.offset:  # a kill after every slice, up to the end of the record
            state = load(dump(state))
            before = state.event_time()
            for alerts in judge_.slices(state, record):
                told += alerts
                slices += 1
                break
            assert (state.event_time() or 0) >= (before or 0)
    assert told == expected
    assert slices > 3 * 360 / 60, "a slice is ten minutes of one app at most"


@dataclass(frozen=True)
class _CountingApps(AppJudge):
    steps: list[int] = field(default_factory=list)

    def close(self, app: AppState, clock: Clock) -> tuple[list[Transition], int]:
        transitions, work = super().close(app, clock)
        self.steps.append(work)
        return transitions, work


@dataclass(frozen=True)
class _Counting(Judge):
    """Counts the steps of work, and what each of them was."""

    steps: list[int] = field(default_factory=list)

    @cached_property
    def _apps(self) -> AppJudge:
        return _CountingApps(self.detectors, self.timing, self.together, self.steps)


def _slices(counting: _Counting, records: list[Record]) -> tuple[list[int], list[Alert]]:
    """Work of every slice that closed anything; and the alerts."""
    state, works, alerts = PartitionState(), list[int](), list[Alert]()
    for record in records:
        for found in counting.slices(state, record):
            works.append(sum(counting.steps))
            counting.steps.clear()
            alerts += found
    return works, alerts


@pytest.mark.extended
def test_two_weeks_of_one_app_in_one_tick_are_judged_in_bounded_slices() -> None:
    """9,222 calls in fourteen days, as in the report of a backlog that stopped detection for good."""
    rate = 9_222 / (14 * 86_400)
    stream = Stream(35, apps=(App(rate=rate, users=20),), partitions=1)
    records = list(stream.records(T0 - 14 * DAY, T0, live=False, batch_s=14_400))
    records = [r for r in records if r.key != b"*"] + [records[-1]]
    works, _ = _slices(_Counting(), records)
    most = judge_module.ALONE + ALIGNED * (judge_module.TOGETHER + 60)  # a stretch, of all series there are
    assert len(works) > 100
    assert judge_module.SLICE <= max(works) < judge_module.SLICE + 2 * most


@pytest.mark.parametrize("gap", [HOUR, 30 * DAY, 365 * DAY], ids=["an hour", "a month", "a year"])
def test_silence_costs_the_same_however_long_it_is(gap: int) -> None:
    """Ten calls of one app, each of which is read when it happens, before and behind a runaway user."""
    spell = Incident(T0 - 60 * SECOND, T0, user="u-7", rate=8.0, context=50.0)
    stream = Stream(36, apps=(App(rate=0.3, cost=0.02),), partitions=1, incidents=(spell,))
    records = list(stream.records(T0 - HOUR, T0, live=False, batch_s=600))
    for at in (T0 + gap, T0 + 2 * gap):
        stream.now = at + SECOND
        records += stream.records(at, at + 30 * SECOND, live=True, batch_s=10)
    counting = _Counting()
    works, alerts = _slices(counting, records)
    first = [a.state for a in alerts if a.id == alerts[0].id and a.state != "update"]
    assert first == ["firing", "resolved"], "its incident is over, long before the next call"
    assert 0 < sum(works) < judge_module.ALONE * 2_000, "an hour of it is a few hundred steps, one by one"


def test_alerts_of_the_past_are_late_and_those_of_the_present_are_not() -> None:
    past = Incident(T0 - HOUR, T0 - HOUR + 300 * SECOND, factor=10)
    now = Incident(T0 + 30 * SECOND, T0 + 60 * SECOND, user="u-77", rate=8)
    stream = Stream(34, apps=(App(cost=0.005),), partitions=1, incidents=(past, now))
    alerts = list(judge(_play(stream, history=3 * HOUR, live_s=130)))
    late = [(a.state, a.late) for a in alerts if a.window.start < "2026-09-21T14"]
    assert late[0] == ("firing", True)
    assert all(flag for _, flag in late)
    assert [(a.state, a.late) for a in alerts if a.window.start >= "2026-09-21T14"][:1] == [("firing", False)]


def _both(records: list[Record]) -> tuple[list[Alert], bytes]:
    """Judge bucket by bucket and many buckets at once; return what both must give."""
    found = []
    for together in (False, True):
        state, judge_ = PartitionState(), Judge(together=together)
        alerts = list(judge_.run(records, state))
        judge_.learn(state)  # the buckets of the last minute
        found.append((alerts, dump(state)))
    (alone, alone_state), (many, many_state) = found
    assert many == alone
    assert many_state == alone_state
    return many, many_state


@pytest.mark.parametrize(("rate", "cost"), [(0.003, 0.3), (0.3, 0.02), (3.0, 0.005)], ids=["sparse", "slow", "busy"])
def test_many_buckets_at_once_are_judged_as_one_by_one_to_the_last_digit(rate: float, cost: float) -> None:
    """Alerts and states are equal: an hour and a half to warm up, then a rise, a runaway user, a guardrail."""
    at = T0 - 2 * HOUR
    spells = (
        Incident(at, at + 200 * SECOND, factor=12),
        Incident(at + 2400 * SECOND, at + 2600 * SECOND, user="u-3", rate=2.0, context=20.0),
        Incident(at + 4800 * SECOND, at + 5400 * SECOND, guardrail="pii", share=0.5, action="block"),
    )
    records = _backlog(32, 4, *spells, rate=rate, cost=cost, burst=0.5, users=40)
    alerts, _ = _both(records)
    assert any(a.state == "firing" for a in alerts)


@pytest.mark.extended
def test_many_buckets_at_once_are_judged_as_one_by_one_where_series_give_way_and_ticks_come_in_between() -> None:
    apps = (App(rate=20, users=30_000, guardrails=tuple(f"g{i}" for i in range(30))), App("other", rate=0.01, cost=1.0))
    stream = Stream(
        33, apps=apps, incidents=(Incident(T0 - 300 * SECOND, T0 - 200 * SECOND, guardrail="g2", share=0.6),)
    )
    _both(list(stream.records(T0 - 2700 * SECOND, T0, live=False, batch_s=290)))


def test_two_source_partitions_that_arrive_one_after_the_other_make_no_spike() -> None:
    stream = Stream(9)
    records = list(stream.records(T0 - 2 * HOUR, T0, live=False, batch_s=300))
    by_source: dict[bytes, list[Record]] = {}
    for record in records:
        by_source.setdefault(dict(record.headers).get("partition", b"tick"), []).append(record)
    ticks = by_source.pop(b"tick")
    # a meter that reads all of partition 0 before the first record of partition 1
    last = Tick.from_json(ticks[-1].value or b"")
    behind = Tick(last.wall, {0: last.sources[0], 1: SourceTick(0, 0, 0, last.wall)})
    order = [*by_source[b"0"], _tick(ticks[0], behind), *by_source[b"1"], ticks[-1]]
    renumbered = [Record(r.topic, 0, i, r.kafka_time, r.key, r.value, r.headers) for i, r in enumerate(order)]
    judge_, state = Judge(), PartitionState()
    for record in renumbered:
        state, alerts = judge_.step(state, record)
        assert alerts == []
    assert state.apps["bot"].windows.late == 0


def _tick(like: Record, tick: Tick) -> Record:
    return Record(like.topic, 0, 0, like.kafka_time, like.key, tick.to_json(), like.headers)


def test_an_app_that_falls_silent_closes_its_windows_by_the_wall_of_the_ticks() -> None:
    stream = Stream(10, partitions=1)
    state, judge_ = PartitionState(), Judge()
    for record in [*_play(stream, live_s=10), *stream.idle(T0 + 11 * SECOND, 60)]:
        state, _ = judge_.step(state, record)
    assert state.apps["bot"].windows.closed >= T0 + 50 * SECOND


@pytest.mark.representatives(1)
@pytest.mark.row(61)
@pytest.mark.parametrize("woken", ["from sleep", "with a backlog", "silent"])
def test_eight_hours_without_a_call_ring_nothing_and_an_incident_after_them_is_told(woken: str) -> None:
    """Asleep there is no tick either; a backlog is what apps kept; silent is an app that nobody calls at night."""
    wake = T0 + 8 * HOUR
    stream = Stream(
        12, partitions=1, incidents=(Incident(wake + 90 * SECOND, wake + 120 * SECOND, user="u-77", rate=9),)
    )
    records = _play(stream, live_s=30)
    if woken == "silent":
        records += stream.idle(T0 + 30 * SECOND, 8 * 3600 - 30, every_s=10)
    elif woken == "with a backlog":
        records += stream.records(wake - 240 * SECOND, wake, live=False, batch_s=60)
    records += stream.records(wake, wake + 220 * SECOND, live=True, batch_s=2)
    firing, _ = _pair(judge(records))
    assert firing.series["user"] == "u-77"
    assert firing.window.start >= f"{datetime.fromtimestamp(wake / SECOND + 60, UTC):%Y-%m-%dT%H:%M:%S}"


def test_garbage_is_counted_and_passed_over() -> None:
    state, judge_ = PartitionState(), Judge()
    bad = [
        (b"bot", b"\x00junk", (("partition", b"0"), ("to", b"1"))),
        (b"bot", None, ()),
        (b"*", b"{}", ((H_KIND, b"tick"),)),
        (b"\xff", b"", ((H_KIND, b"rollup"),)),
    ]
    for i, (key, value, headers) in enumerate(bad):
        state, alerts = judge_.step(state, Record("llm.rollups", 0, i, T0, key, value, headers))
        assert alerts == []
    assert (state.poison, state.position) == (4, 4)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_app_that_flaps_for_twelve_hours_rings_six_times_an_hour_at_most() -> None:
    """Three minutes at ten times the cost, three without; each series rests for ten minutes after its incident."""
    flaps = tuple(Incident(at, at + 180 * SECOND, factor=10) for at in range(T0, T0 + 12 * HOUR, 360 * SECOND))
    stream = Stream(14, apps=(App(rate=0.2, cost=0.02, cycle=0.0),), partitions=1, incidents=flaps)
    records = list(stream.records(T0 - HOUR, T0, live=False, batch_s=300))
    records += stream.records(T0, T0 + 12 * HOUR, live=True, batch_s=30)
    told = list(judge(records))
    firing = [datetime.fromisoformat(a.detected_at).timestamp() for a in told if a.state == "firing"]
    assert firing
    assert max(sum(0 <= other - at < 3600 for other in firing) for at in firing) <= 6
    assert len(told) <= 2 * len(firing), "an update of an incident of three minutes"


@pytest.mark.parametrize("apps", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_apps_that_spike_all_at_once_ring_once_each(apps: int) -> None:
    """Their features, tenants, models and users spike with them: one cause each, one alert each."""
    stream = Stream(
        15, apps=(App(rate=1.0, cost=0.02, cycle=0.0),), partitions=1, incidents=(Incident(T0, T0 + DAY, factor=10),)
    )
    judge_, state = Judge(), PartitionState()
    for record in stream.records(T0 - HOUR, T0, live=False, batch_s=300):
        state, _ = judge_.step(state, record)
    names = [f"{n:03}" for n in range(apps)]
    learned = pickle.dumps(state.apps.pop("bot"))  # once for all: an hour of 200 apps takes minutes
    state.apps = {name: pickle.loads(learned.replace(b"bot", name.encode())) for name in names}
    told: list[Alert] = []
    for record in stream.records(T0, T0 + 50 * SECOND, live=True, batch_s=5):
        for copy in _copies(record, names):
            state, alerts = judge_.step(state, replace(copy, offset=state.position))
            told += alerts
    assert sorted((a.state, a.series["app"]) for a in told) == sorted(("firing", name) for name in names)
    assert {frozenset(a.series) for a in told} == {frozenset({"app"})}


def _copies(record: Record, names: Sequence[str]) -> list[Record]:
    """A rollup of one app as that of many; a tick as it is."""
    if dict(record.headers).get(H_KIND) == b"tick":
        return [record]
    with pa.ipc.open_stream(record.value) as reader:
        table = reader.read_all()
    place, series = table.schema.get_field_index("series"), table.column("series").cast(pa.string())
    copies = []
    for name in names:
        named = table.set_column(place, "series", pc.replace_substring(series, '"app":"bot"', f'"app":"{name}"'))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, named.schema) as writer:
            writer.write_table(named)
        copies.append(replace(record, key=name.encode(), value=sink.getvalue().to_pybytes()))
    return copies


@pytest.mark.row(50)
def test_apps_beyond_the_limit_are_counted_and_take_no_room() -> None:
    """An event may claim any app: two thousand names, of which a partition keeps a thousand."""
    stream = Stream(16, apps=(App(rate=0.5, users=3, cycle=0.0),), partitions=1)
    rollup, tick = list(stream.records(T0, T0 + 10 * SECOND, live=True, batch_s=10))
    judge_, state, sizes = Judge(), PartitionState(), []
    for first in (0, MAX_APPS):
        names = [f"app-{n:04}" for n in range(first, first + MAX_APPS)]
        for copy in [*_copies(rollup, names), tick]:
            state, alerts = judge_.step(state, replace(copy, offset=state.position))
            assert alerts == []
        assert (len(state.apps), state.crowded_out) == (MAX_APPS, first)
        sizes.append(len(dump(state)))
    assert max(state.apps) == f"app-{MAX_APPS - 1:04}"
    # two hours later the thousand are silent, and a new app gets a place, once its time has been heard of
    later = list(stream.records(T0 + 7200 * SECOND, T0 + 7210 * SECOND, live=True, batch_s=10))
    for copy in [later[-1], *_copies(later[0], ["app-new"]), *_copies(later[0], ["app-newer"])]:
        state, _ = judge_.step(state, replace(copy, offset=state.position))
    assert {"app-new", "app-newer"} <= state.apps.keys()
    assert (len(state.apps), state.crowded_out) == (MAX_APPS, MAX_APPS)
    assert sizes[1] <= sizes[0] + 100
    assert sizes[0] < 1 << 20
    assert state.poison == 0


@pytest.mark.extended
@pytest.mark.row(50)
def test_an_app_of_a_million_users_keeps_a_bounded_state() -> None:
    """About ninety new users a second: every place has been given to others many times."""
    stream = Stream(17, apps=(App(rate=100, users=1_000_000, cycle=0.0),), partitions=1)
    judge_, state, sizes = Judge(), PartitionState(), []
    for record in stream.records(T0, T0 + 600 * SECOND, live=True, batch_s=10):
        state, alerts = judge_.step(state, record)
        assert alerts == []
        windows = state.apps["bot"].windows
        assert len(windows.series) <= MAX_SERIES
        assert len(windows.index) <= MAX_SERIES
        assert len(windows.slots) <= RING + 3
        sizes.append(len(dump(state)))
    assert windows.positions[0] > 50_000
    full = len(sizes) * 2 // 3  # the ring of five minutes is full, and turns
    assert max(sizes[full:]) < 1.1 * max(sizes[:full])
    own = windows.total(windows.closed - RING * SLOT, windows.latest())[windows.index[windows.own]]
    assert own[0] > 100 * RING * 10 * 0.9, "the app itself gives way to no user"


@pytest.mark.row(43)
def test_an_event_dated_far_ahead_or_back_moves_no_window() -> None:
    stream = Stream(12, partitions=1)
    records = list(stream.records(T0 - 60 * SECOND, T0, live=True, batch_s=10))
    wild = Stream(13, partitions=1, offsets={0: 10_000})
    far = [*wild.records(T0 + 3650 * DAY, T0 + 3650 * DAY + SECOND, live=True)]
    far += [*wild.records(SECOND, 30 * SECOND, live=True, batch_s=29)]
    state, judge_ = PartitionState(), Judge()
    for i, record in enumerate([*records, *(r for r in far if dict(r.headers).get(H_KIND) != b"tick")]):
        state, alerts = judge_.step(state, Record(record.topic, 0, i, T0, record.key, record.value, record.headers))
        assert alerts == []
    windows = state.apps["bot"].windows
    assert max(windows.slots) < T0 + 60 * SECOND
    assert windows.refused > 0
