"""An open drift incident: over once, reopened under its id, updated, and closed where its series stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import pytest

from pipelines.alerts.lifecycle import Timing
from pipelines.drift.partition import Partition
from pipelines.drift.points import Point
from pipelines.drift.strata import ReferenceConfig
from pipelines.drift.watch import Watch, WatchConfig
from schemas.alerts import Alert

Make = Callable[..., list[Point]]
STEADY = {t: 1.0 for t in range(8)}
SHIFTED = {**STEADY, 20: 12.0}
SLIGHT = {**STEADY, 20: 8 * 0.25 / 0.75}
CONFIG = WatchConfig(reference=ReferenceConfig(size=120))


def states(alerts: list[Alert]) -> list[tuple[str, int]]:
    return [(a.state, a.seq) for a in alerts]


@pytest.mark.parametrize(("seed", "shares"), [(31, SHIFTED), (32, SLIGHT), (33, SLIGHT)])
def test_a_shift_that_lasts_is_not_over_while_it_lasts(texts: Make, seed: int, shares: dict[int, float]) -> None:
    watch = Watch("bot", "input", CONFIG)
    emitted = watch.step([*texts(seed, STEADY, 500), *texts(seed, shares, 1500, start=500)])
    assert [a.state for a in emitted if a.state != "update"] == ["firing"]
    after = watch.step(texts(seed, STEADY, 500, start=2000))
    assert [a.state for a in after] == ["resolved"]
    assert after[0].id == emitted[0].id


def test_texts_that_come_in_runs_do_not_end_it(texts: Make) -> None:
    """A conversation about something else, forty texts long, is no recovery."""
    watch = Watch("bot", "input", CONFIG)
    watch.step(texts(34, STEADY, 600, stay=0.9, users=0))
    emitted = watch.step(texts(34, {**STEADY, 20: 30.0}, 1500, start=600, stay=0.9, users=0))
    assert [a.state for a in emitted if a.state != "update"] == ["firing"]


def test_the_same_series_that_moves_again_soon_is_reopened_and_much_later_is_another_incident(texts: Make) -> None:
    first = [*texts(35, STEADY, 500), *texts(35, SHIFTED, 200, start=500), *texts(35, STEADY, 120, start=700)]
    watch = Watch("bot", "input", CONFIG)
    before = watch.step(first)
    assert states(before) == [("firing", 0), ("resolved", 1)]
    kept = watch.snapshot()
    again = Watch.restore(kept, CONFIG).step([*texts(35, SHIFTED, 200, start=820), *texts(35, STEADY, 800, start=1020)])
    assert states([a for a in again if a.state != "update"])[0] == ("firing", 2)
    assert [a.state for a in again if a.state != "update"] == ["firing", "resolved"]
    assert {a.id for a in again} == {before[0].id}
    assert again[0].title.startswith("again: ")
    assert again[-1].window.start == before[0].window.start
    later = Watch.restore(kept, CONFIG).step([*texts(35, STEADY, 700, start=820), *texts(35, SHIFTED, 200, start=1520)])
    assert states(later) == [("firing", 0)]
    assert later[0].id != before[0].id


def test_it_is_emitted_again_every_half_hour(texts: Make) -> None:
    watch = Watch("bot", "input", replace(CONFIG, timing=Timing(update_growth_ratio=1e9)))
    emitted = watch.step([*texts(36, STEADY, 500), *texts(36, SHIFTED, 2400, start=500)])
    assert states(emitted) == [("firing", 0), ("update", 1), ("update", 2)]
    assert 0.5 < emitted[1].observed < 0.7
    assert emitted[1].window.end > emitted[0].window.end


@pytest.mark.parametrize("others", ["another app", "its own next text"])
def test_an_app_that_makes_no_texts_any_more_is_closed_once(texts: Make, others: str) -> None:
    partition = Partition(0, CONFIG)
    shifted = [*texts(37, STEADY, 500), *texts(37, SHIFTED, 200, start=500)]
    fired = partition.apply(shifted, 700, 700)
    assert states(fired) == [("firing", 0)]
    later = texts(38, STEADY, 3, start=700 + 1200)  # 2,000 s later, at 0.6 texts/s
    if others == "another app":
        later = [msgspec.structs.replace(p, app="other") for p in later]
    restored = Partition.load(0, dict(partition.save()), CONFIG)
    emitted = restored.apply(later, 1000, 1000)
    assert states(emitted) == [("resolved", 1)]
    assert emitted[0].id == fired[0].id
    assert "stopped" in emitted[0].title
    assert emitted[0].window.end < "2026-09-21T14:33"
