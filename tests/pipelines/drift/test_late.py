"""What drift marks as late, and up to which event time it says it has worked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace

import msgspec
import pytest

from pipelines.drift.config import DriftConfig
from pipelines.drift.partition import Partition
from pipelines.drift.points import Point
from pipelines.drift.stage import Stage
from pipelines.drift.strata import ReferenceConfig
from pipelines.drift.watch import LIVE, WatchConfig
from pipelines.kafka import KafkaConfig
from schemas.alerts import Alert

Make = Callable[..., list[Point]]
STEADY = {t: 1.0 for t in range(8)}
SHIFTED = {**STEADY, 20: 12.0}
CONFIG = WatchConfig(reference=ReferenceConfig(size=120))
HOUR = 3_600_000_000


def later(points: Iterable[Point], by: int, **fields: str) -> list[Point]:
    """The same texts, sampled ``by`` µs later than they were."""
    return [msgspec.structs.replace(p, wall=p.wall + by, **fields) for p in points]


def marks(alerts: list[Alert]) -> list[tuple[str, bool]]:
    return [(a.state, a.late) for a in alerts if a.state != "update"]


@pytest.mark.parametrize(("by", "late"), [(0, False), (LIVE - 400_000, False), (LIVE, True), (24 * HOUR, True)])
def test_an_alert_is_late_where_its_text_was_history_when_it_was_sampled(texts: Make, by: int, late: bool) -> None:
    points = [*texts(35, STEADY, 500), *texts(35, SHIFTED, 200, start=500), *texts(35, STEADY, 120, start=700)]
    emitted = Partition(0, CONFIG).apply(later(points, by), 820, 820)
    assert marks(emitted) == [("firing", late), ("resolved", late)]


@pytest.mark.parametrize("by", ["another app", "its own next text"])
@pytest.mark.parametrize("late", [False, True], ids=["live", "in a backlog"])
def test_an_app_that_fell_silent_in_a_backlog_is_closed_late_whatever_text_shows_it(
    texts: Make, by: str, late: bool
) -> None:
    """The backlog is three hours old; the text that closes the incident is of the present."""
    partition = Partition(0, CONFIG)
    shifted = [*texts(37, STEADY, 500), *texts(37, SHIFTED, 200, start=500)]
    fired = partition.apply(later(shifted, 3 * HOUR if late else 0), 700, 700)
    assert marks(fired) == [("firing", late)]
    restored = Partition.load(0, dict(partition.save()), CONFIG)
    after = texts(38, STEADY, 3, start=700 + 4 * 3600)
    emitted = restored.apply(later(after, 0, **({"app": "other"} if by == "another app" else {})), 1000, 1000)
    assert marks(emitted) == [("resolved", late)]
    assert (emitted[0].id, "stopped" in emitted[0].title) == (fired[0].id, True)


def test_the_event_time_of_a_partition_comes_back_with_its_checkpoint(texts: Make) -> None:
    partition = Partition(3, CONFIG)
    assert partition.event_time == 0
    points = texts(39, STEADY, 60)
    partition.apply(points, 60, 60)
    restored = Partition.load(3, dict(partition.save()), CONFIG)
    assert restored.event_time == partition.event_time == points[-1].ts


def test_the_stage_is_as_far_behind_as_the_first_text_it_has_not_judged(texts: Make, tmp_path) -> None:
    """Also before the model has answered for the first time."""
    stage = Stage(DriftConfig(KafkaConfig("nowhere:1"), tmp_path), SimpleNamespace(model="none"))
    first, second = Partition(0, CONFIG), Partition(1, CONFIG)
    stage.partitions = {0: first, 1: second}
    assert stage.event_times == {0: None, 1: None}
    points = texts(40, STEADY, 20)
    first.reach(points[0].ts)
    assert stage.event_times == {0: points[0].ts, 1: None}
    first.apply(points, 20, 20)
    first.reach(points[3].ts)
    assert stage.event_times == {0: points[-1].ts, 1: None}
    progress = stage.facts().progress
    assert progress is not None
    stage.move_on()
    assert stage.facts().progress == progress + 1
