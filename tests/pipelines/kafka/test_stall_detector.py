"""A partition that stands still among others that move."""

import pytest

from pipelines.kafka import PartitionStalledError, StallDetector

A, B = ("llm.events", 0), ("llm.events", 1)


def look(standstill: StallDetector, at: float, a: int, b: int, end: int = 100) -> None:
    standstill.look({A: a, B: b}, {A: end, B: end}, at)


def test_a_partition_that_stands_with_records_behind_it_is_named() -> None:
    standstill = StallDetector(60)
    for at in (0, 30, 59):
        look(standstill, at, a=int(at), b=7)
    with pytest.raises(PartitionStalledError, match=r"llm\.events\[1\] has stood at 7 for 61 s with records up to 100"):
        look(standstill, 61, a=61, b=7)


def test_what_moves_a_little_or_has_nothing_to_read_does_not_stand() -> None:
    slow, idle = StallDetector(60), StallDetector(60)
    for at in range(0, 600, 20):
        look(slow, at, a=at, b=at // 50, end=1_000)
        look(idle, at, a=at, b=100)
    for at in (600, 630):
        look(slow, at, a=at, b=12, end=1_000)
    with pytest.raises(PartitionStalledError):
        look(slow, 660, a=660, b=12, end=1_000)


def test_records_that_came_late_count_from_when_they_came() -> None:
    standstill = StallDetector(60)
    for at in (0, 100, 200):
        look(standstill, at, a=1, b=1, end=1)
    for at in (201, 230, 260):
        look(standstill, at, a=1, b=1, end=2)
    with pytest.raises(PartitionStalledError):
        look(standstill, 261, a=1, b=1, end=2)


def test_a_stage_that_was_held_up_itself_looks_again_before_it_blames_a_partition() -> None:
    standstill = StallDetector(60)
    look(standstill, 0, a=0, b=0)
    look(standstill, 900, a=50, b=0)  # one batch took a quarter of an hour
    with pytest.raises(PartitionStalledError):
        look(standstill, 910, a=60, b=0)


def test_a_partition_that_was_taken_away_and_came_back_starts_anew() -> None:
    standstill = StallDetector(60)
    look(standstill, 0, a=0, b=0)
    look(standstill, 40, a=1, b=0)
    standstill.look({A: 2}, {A: 100, B: 100}, 80)
    for at in (90, 120, 149):
        look(standstill, at, a=at, b=0, end=1_000)
