"""Event time out of ticks."""

from pipelines.detect.clock import SLACK, Clock
from pipelines.detect.items import TickAt
from schemas.rollups import SourceTick, Tick

SECOND = 1_000_000
NOW = 1_795_244_400 * SECOND


def hear(clock, wall, **sources):
    ticks = {int(name[1:]): SourceTick(*said) for name, said in sources.items()}
    clock.hear(TickAt(Tick(wall, ticks), wall))


def test_history_written_long_after_the_start_of_an_empty_topic_is_not_late():
    clock = Clock()
    for second in range(120):
        hear(clock, NOW + second * SECOND, p0=(0, 0, 0, 0), p1=(0, 0, 0, 0))
    assert clock.watermark == 0
    hour_ago, wall = NOW - 3600 * SECOND, NOW + 121 * SECOND
    hear(clock, wall, p0=(5, hour_ago, wall, wall), p1=(0, 0, 0, 0))
    assert clock.watermark == hour_ago


def test_once_there_were_events_the_watermark_of_an_idle_topic_follows_the_wall():
    clock = Clock()
    hear(clock, NOW, p0=(5, NOW - 50, NOW, NOW), p1=(0, 0, 0, 0))
    for second in range(1, 30):
        hear(clock, NOW + second * SECOND, p0=(5, NOW - 50, NOW, NOW), p1=(0, 0, 0, 0))
    assert clock.watermark == NOW + 29 * SECOND - SLACK
