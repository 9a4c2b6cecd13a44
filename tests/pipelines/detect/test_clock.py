"""Event time out of ticks."""

from pipelines.detect.clock import SLACK, Clock
from pipelines.detect.items import TickAt
from schemas.rollups import SourceTick, Tick

SECOND = 1_000_000
NOW = 1_795_244_400 * SECOND


def apply(clock, wall, **sources):
    ticks = {int(name[1:]): SourceTick(*said) for name, said in sources.items()}
    clock.apply(TickAt(Tick(wall, ticks), wall))


def test_history_written_long_after_the_start_of_an_empty_topic_is_not_late():
    clock = Clock()
    for second in range(120):
        apply(clock, NOW + second * SECOND, p0=(0, 0, 0, 0), p1=(0, 0, 0, 0))
    assert clock.watermark == 0
    hour_ago, wall = NOW - 3600 * SECOND, NOW + 121 * SECOND
    apply(clock, wall, p0=(5, hour_ago, wall, wall), p1=(0, 0, 0, 0))
    assert clock.watermark == hour_ago


def test_once_there_were_events_the_watermark_of_an_idle_topic_follows_the_wall():
    clock = Clock()
    apply(clock, NOW, p0=(5, NOW - 50, NOW, NOW), p1=(0, 0, 0, 0))
    for second in range(1, 30):
        apply(clock, NOW + second * SECOND, p0=(5, NOW - 50, NOW, NOW), p1=(0, 0, 0, 0))
    assert clock.watermark == NOW + 29 * SECOND - SLACK


AHEAD = 3000 * SECOND


def test_a_record_dated_ahead_never_moves_the_watermark_beyond_the_time_of_its_append():
    clock = Clock()
    apply(clock, NOW, p0=(5, NOW + AHEAD, NOW - SECOND, NOW))
    assert clock.watermark == NOW - SECOND


def test_a_tick_that_believed_a_producer_s_time_never_moves_the_watermark_beyond_the_broker_s():
    clock = Clock()
    apply(clock, NOW, p0=(5, NOW + AHEAD, NOW + AHEAD, NOW))
    assert clock.watermark == NOW


def test_a_meter_whose_clock_is_ahead_moves_neither_the_wall_nor_the_watermark_of_an_idle_topic():
    clock = Clock()
    for second in range(30):
        at, wall = NOW + second * SECOND, NOW + AHEAD + second * SECOND
        busy = NOW + AHEAD
        clock.apply(TickAt(Tick(wall, {0: SourceTick(5, NOW - 50, NOW, busy)}), at))
    assert clock.wall == NOW + 29 * SECOND
    assert clock.watermark == NOW + 29 * SECOND - SLACK
