"""Which values are new, and which of them are one change. Pure: the same history and moment give the same answer.

How the number of messages is bounded:

- nothing is new on the first day of an app, nor on the first day on which an app reports a kind of value at all;
- values that were first seen within ``group_min`` of each other in one app are one change;
- a kind that changes all the time in an app (``often`` new values a day over a week) is not a note;
- an app gets ``most_a_day`` notes a day, and one more which states that there were more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from jobs.novelty.values import FIRST_DAY, KINDS, Value
from schemas.alerts import Severity


@dataclass(frozen=True)
class Settings:
    """What is a note, and how many there may be."""

    kinds: tuple[str, ...] = tuple(name for name in KINDS if name != "release")
    """Kinds of values that are looked at."""
    severity: Severity = "info"
    ignore: tuple[str, ...] = ()
    """Apps that get no notes."""
    min_calls: int = 20
    """Calls with the new value from which on the note is sent immediately."""
    wait_min: int = 60
    """Minutes after which the note is sent with fewer calls."""
    least_calls: int = 3
    """Calls with the new value below which there is no note."""
    group_min: int = 5
    """Minutes within which the first calls with several new values are one change."""
    most_a_day: int = 3
    """Notes of an app in 24 hours."""
    often: float = 3.0
    """New values a day, over a week, from which on a kind of value of an app is no longer a note."""


@dataclass(frozen=True)
class NewValue:
    """A value that is new to its app: what identifies it."""

    app: str
    kind: str
    within: str | None
    value: str
    first: datetime = field(compare=False)
    calls: int = field(compare=False)

    @property
    def series(self) -> dict[str, str]:
        """Its dimensions; the identity of its alert."""
        kind = KINDS[self.kind]
        within = {kind.within_name: self.within} if kind.within_name and self.within is not None else {}
        return {"app": self.app, **within, self.kind: self.value}


@dataclass(frozen=True)
class Change:
    """New values of one app whose first calls are close to each other; the first one names the change."""

    values: tuple[NewValue, ...]

    @property
    def first(self) -> datetime:
        """When it began."""
        return self.values[0].first

    @property
    def calls(self) -> int:
        """Calls with the value that most calls have."""
        return max(value.calls for value in self.values)


def new_values(values: Iterable[Value], settings: Settings) -> list[NewValue]:
    """Return what is new, by app, time and kind."""
    found = [
        NewValue(each.app, each.kind, each.within, each.value, each.first, each.calls)
        for each in values
        if _is_new(each, settings)
    ]
    order = {name: rank for rank, name in enumerate(KINDS)}
    return sorted(found, key=lambda v: (v.app, v.first, order[v.kind], v.within or "", v.value))


def _is_new(value: Value, settings: Settings) -> bool:
    kind = KINDS[value.kind]
    if value.app in settings.ignore or value.kind not in settings.kinds:
        return False
    if value.first < value.app_first + FIRST_DAY:
        return False
    if kind.reported and value.first < value.kind_first + FIRST_DAY:
        return False
    if kind.skip_first_day and value.first < value.within_first + FIRST_DAY:
        return False
    return value.new_in_week < settings.often * 7


def changes(values: Sequence[NewValue], settings: Settings) -> list[Change]:
    """Put values of one app that began together into one change each; ``values`` are sorted as ``new_values`` does."""
    found: list[list[NewValue]] = []
    for value in values:
        last = found[-1][0] if found else None
        if last is not None and last.app == value.app and value.first - last.first <= _minutes(settings.group_min):
            found[-1].append(value)
        else:
            found.append([value])
    return [Change(tuple(each)) for each in found]


def is_due_for_note(change: Change, now: datetime, settings: Settings) -> bool:
    """Whether there are enough calls to compare before and after, or the longest wait for them is over."""
    age = now - change.first
    if change.calls < settings.least_calls or age < _minutes(settings.group_min):
        return False
    return change.calls >= settings.min_calls or age >= _minutes(settings.wait_min)


def _minutes(count: int) -> timedelta:
    return timedelta(minutes=count)
