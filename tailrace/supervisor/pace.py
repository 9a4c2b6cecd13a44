"""How far a stage is behind and when it will be done: pure, from a short history of what it reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.stage_facts import StageFacts

SAMPLE_EVERY_S = 5.0
SAMPLES = 13
"""A minute of history: shorter, and one slow commit is taken for the pace."""
CURRENT_S = 10.0
"""Behind by no more than this, a stage is up to date: time buckets and batches take as long to close."""
READY_S = 300.0
"""A stage that is behind by more than this reports the past: its alerts come too late to act on."""
READ_ALL_S = 15.0
"""A stage that had read everything within this number of seconds keeps up, with any time of its last record."""


@dataclass(frozen=True)
class Sample:
    """What was known at one moment."""

    at: float
    """Seconds of a clock that only goes forward."""
    lag: int | None
    """Records that were not read yet."""
    behind_s: float | None


def worked_until(facts: StageFacts) -> int | None:
    """Return up to which time a stage has worked, by its facts: event time, else time of arrival at the brokers."""
    return facts.arrival_time if facts.event_time is None else facts.event_time


def behind(lag: int | None, until: int | None, now: int) -> float | None:
    """Return how far a stage is behind, in seconds of event time; None where that is not known.

    Args:
        lag: records that were not read yet; with none left the stage is not behind, however old the last one is.
        until: up to which time it has worked, µs UTC.
        now: µs UTC.
    """
    if lag == 0:
        return 0.0
    return None if until is None else max(0.0, (now - until) / 1e6)


def done_in(samples: Sequence[Sample]) -> float | None:
    """Return in how many seconds nothing will wait, at the pace since the history's worst moment; None: not known.

    Event time counts where it is known and advances: inside one record of many hours the lag does not change.
    """
    if not samples:
        return None
    last = samples[-1]
    if last.lag == 0 or (last.behind_s is not None and last.behind_s <= CURRENT_S):
        return 0.0
    by_time = _left([(s.at, s.behind_s) for s in samples if s.behind_s is not None])
    return by_time if by_time is not None else _left([(s.at, float(s.lag)) for s in samples if s.lag is not None])


def is_ready(behind_s: float | None, samples: Sequence[Sample]) -> bool:
    """Return whether a stage works on the present: little behind, or nothing waited for it a moment ago."""
    if behind_s is None or behind_s <= READY_S:
        return True
    return any(s.lag == 0 for s in samples if samples[-1].at - s.at <= READ_ALL_S)


def add(samples: Sequence[Sample], new: Sample) -> tuple[Sample, ...]:
    """Return the history with ``new`` at its end, if it is time for another; the oldest is dropped."""
    if samples and new.at - samples[-1].at < SAMPLE_EVERY_S:
        return tuple(samples)
    return (*samples, new)[-SAMPLES:]


def _left(values: Sequence[tuple[float, float]]) -> float | None:
    """Seconds until the value is 0, from (time, value): a line through the latest peak and the last point."""
    if len(values) < 2:
        return None
    at, value = values[-1]
    since, peak = max(values[:-1], key=lambda point: (point[1], point[0]))
    return value * (at - since) / (peak - value) if peak > value else None
