"""Many apps at once give the alerts and states that each gives tick by tick, to the last digit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from pipelines.detect import judge as judge_module
from pipelines.detect.guards import Guards
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from schemas.alerts import Alert
from schemas.records import Record
from tests.pipelines.detect.states import normal
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream

RATES = (0.03, 0.1, 0.3, 1.0, 2.5)


def _incident(rng: np.random.Generator, app: str, live_s: int) -> Incident:
    """A runaway user, a rise of the whole app, or a guardrail that begins to stop calls; some end, some do not."""
    start = T0 + int(rng.integers(5, live_s // 2)) * SECOND
    end = start + int(rng.integers(20, live_s)) * SECOND
    kind = int(rng.integers(3))
    if kind == 0:
        user = f"u-{int(rng.integers(20))}"
        return Incident(start, end, user=user, rate=float(rng.uniform(0.5, 4)), context=20.0, app=app)
    if kind == 1:
        return Incident(start, end, factor=float(rng.uniform(2, 15)), app=app)
    action = str(rng.choice(["block", "flag"]))
    return Incident(start, end, guardrail="pii", share=float(rng.uniform(0.2, 0.8)), action=action, app=app)


def _records(seed: int, *, number: int = 6, live_s: int = 240) -> list[Record]:
    """History of 50 minutes, and then ``number`` apps as they arrive; six incidents of them, in any order."""
    rng = np.random.default_rng(seed)
    apps = tuple(
        App(
            f"app-{n}",
            rate=float(rng.choice(RATES)),
            users=int(rng.integers(3, 60)),
            cost=0.01,
            burst=0.3,
            guardrails=("pii", "injection", "topic")[: int(rng.integers(1, 4))],
        )
        for n in range(number)
    )
    incidents = tuple(_incident(rng, f"app-{int(rng.integers(number))}", live_s) for _ in range(6))
    stream = Stream(seed, apps=apps, partitions=2, incidents=incidents)
    past = list(stream.records(T0 - 5 * HOUR // 6, T0, live=False, batch_s=600))
    return past + list(stream.records(T0, T0 + live_s * SECOND, live=True))


def _judged(judge: Judge, records: list[Record], *, every: int = 0) -> tuple[list[Alert], bytes]:
    """Alerts, and the state in the end; it is written down and read back at every ``every``th record."""
    state, found = PartitionState(), []
    for i, record in enumerate(records):
        if every and i % every == 0:
            state = load(dump(state))
        state, alerts = judge.step(state, record)
        found += alerts
    return found, normal(judge, state)


@pytest.mark.representatives(1)
@pytest.mark.parametrize("seed", [1, 2])
def test_many_apps_with_incidents_are_judged_as_one_by_one(seed: int) -> None:
    records = _records(seed)
    expected = _judged(Judge(together=False), records)
    assert {a.state for a in expected[0]} >= {"firing", "update"} or len(expected[0]) > 2
    assert _judged(Judge(), records) == expected
    assert _judged(Judge(), records, every=61) == expected


@pytest.mark.extended
def test_a_tick_that_is_interrupted_between_apps_goes_on_with_the_same_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slice ends after one app; at some of them the stage is killed and goes on from what was written down."""
    records = _records(4, number=4, live_s=120)
    expected = _judged(Judge(together=False), records)
    monkeypatch.setattr(judge_module, "SLICE", 1)
    judge, state, found, slices, restarts = Judge(), PartitionState(), list[Alert](), 0, 0
    for record in records:
        judged = False
        while not judged:
            for alerts in judge.slices(state, record):
                found += alerts
                slices += 1
                if slices % 17 == 0 and state.position <= record.offset:
                    state, restarts = load(dump(state)), restarts + 1
                    break
            else:
                judged = True
    assert (found, normal(judge, state)) == expected
    assert restarts > 5


def test_most_apps_are_closed_and_compared_together(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: Counter[str] = Counter()
    look, put = Guards.look, Guards.put

    def looked(guards: Guards, found: list[object]) -> None:
        counted["compared"] += 1
        look(guards, found)  # type: ignore[arg-type]

    def made(guards: Guards, *arguments: object) -> object:
        counted["made"] += 1
        return put(guards, *arguments)  # type: ignore[arg-type]

    apps = tuple(App(f"app-{n}", rate=0.4, users=20, cost=0.01) for n in range(12))
    stream = Stream(5, apps=apps, partitions=1)
    records = list(stream.records(T0 - 5 * HOUR // 6, T0, live=False, batch_s=600))
    records += stream.records(T0, T0 + 300 * SECOND, live=True)
    monkeypatch.setattr(Guards, "look", looked)
    monkeypatch.setattr(Guards, "put", made)
    assert list(Judge().run(records)) == []
    assert counted["compared"] < 2 * 300, "about once a tick, not once a tick and app"
    assert counted["made"] < 5 * len(apps)
