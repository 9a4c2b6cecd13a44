"""What detectors share that judge once a minute, when the last of six buckets has closed.

What they test (a share of tokens, a quantile) takes minutes to prove at any rate of calls that matters, and reading
histograms at every look would cost more than all other tests together. A verdict of a minute holds until the next one,
so every look within it finds the same.

Buckets of the present close without being learned; they are learned later, many at once. The test of a minute still
runs when the minute ends, on a copy of its state (``Trial``) that is used when it is learned. So the end of a minute is
no reason for a look at an app, and no minute is weighed twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from pipelines.alerts.finding import Finding
from pipelines.detect.bounds import Ahead, BoundTable, Rows
from pipelines.detect.detectors.base import View
from pipelines.detect.isolation import raising
from pipelines.detect.stretch import ALIGNED, Stretch
from pipelines.detect.windows import RING, SLOT, Floats, Windows

if TYPE_CHECKING:
    from pipelines.detect.guards import Guard

MINUTE = 6 * SLOT
LEARNED_AFTER = RING * SLOT - MINUTE
"""A minute is held back for so long before it may be learned, µs."""
TEN_MINUTES = ALIGNED * SLOT
"""What is held back is learned when ten minutes end."""
S_contra = TypeVar("S_contra", contravariant=True)
S = TypeVar("S")


@dataclass
class MinuteState:
    """What the states of these detectors begin with; their arrays are (series of ``Windows.side``, ...)."""

    version: int = 1
    names: list[str] = field(default_factory=list)
    """Series, by row."""


def no_rows(*shape: int) -> Floats:
    """(0, ``shape``): the array of a state before there is a series."""
    return np.zeros((0, *shape))


class MinuteTest(Protocol[S_contra]):
    """The part of such a detector that is its own."""

    name: ClassVar[str]

    def minutes(
        self, state: S_contra, windows: Windows, ends: Sequence[int], open_: Mapping[str, int]
    ) -> Iterator[None]:
        """Weigh and learn, in place, what one minute after the other adds.

        Their ``ends`` (µs UTC) follow each other, and none but the last ends ten minutes: so what is learned stays what
        it is, and what does not depend on the minute before is computed for all of them at once.
        """

    def breaches(self, state: S_contra, open_: Mapping[str, int]) -> bool:
        """Whether the last minute left evidence enough for a finding of a family that is not open."""

    def findings(self, state: S_contra, view: View) -> list[Finding]:
        """Return the abnormal values of families that are not open."""


class MinuteDetector:
    """The part that is the same in all detectors that are a ``MinuteTest``."""

    def step(self: MinuteTest[S], state: S, view: View) -> tuple[S, list[Finding]]:
        """Weigh a minute that has ended; report what the last one left."""
        if view.closed is not None and (view.closed + SLOT) % MINUTE == 0:
            weigh_minute(self, state, view.windows, view.closed + SLOT, view.open)
        return state, self.findings(state, view) if self.breaches(state, view.open) else []

    def scan(self: MinuteTest[S], state: S, stretch: Stretch) -> MinuteScan:
        """The same over many buckets."""
        return MinuteScan(self, state, stretch)

    def bound(self: MinuteTest[S], state: S, ahead: Ahead) -> MinuteBound:
        """Return the test of the minutes that end, before they are learned."""
        return MinuteBound(self, state, ahead)

    def idle(self, state: S, slots: int) -> S:
        """Without calls there is no share, no time and nothing per call."""
        return state


class Trial:
    """A state that is ahead of what is learned: it has weighed every minute that has ended."""

    def __init__(self, test: MinuteTest[Any], state: Any, ahead: Ahead) -> None:
        self.test, self.state = test, copied(state)
        self.windows, self.open = ahead.windows, dict(ahead.open)
        self.end = ahead.first // MINUTE * MINUTE
        """End of the last minute that was weighed, µs UTC."""
        self.found = test.breaches(self.state, self.open)
        """Whether the last minute leaves a finding."""
        self.quiet = not self.found
        """Whether nothing was found in any minute."""

    def is_due(self) -> bool:
        """Whether a minute has ended since."""
        return self.end + MINUTE <= self.windows.closed

    def advance(self) -> None:
        """Weigh the minutes that have ended since."""
        while self.is_due():
            self.end += MINUTE
            weigh_minute(self.test, self.state, self.windows, self.end, self.open)
            self.found = self.test.breaches(self.state, self.open)
            self.quiet &= not self.found


class MinuteScan:
    """A stretch of buckets, minute by minute; see ``Scan``."""

    def __init__(self, test: MinuteTest[Any], state: Any, stretch: Stretch) -> None:
        self.test, self.state, self.stretch = test, state, stretch
        self.ends = [start + SLOT for start in stretch.starts]
        trial, last, self.done = stretch.trials.get(test.name), state, 0
        if trial and trial.quiet and trial.end <= self.ends[-1] and trial.open == stretch.open:
            last, self.done = trial.state, trial.end
        self.last = copied(last)
        self.quiet = self._quiet()

    def _quiet(self) -> int:
        if self.test.breaches(self.last, self.stretch.open):
            return 0
        for ends in split_at_ten_minutes([end for end in self.ends if end % MINUTE == 0 and end > self.done]):
            weighed = self.test.minutes(self.last, self.stretch.windows, ends, self.stretch.open)
            for end, _ in zip(ends, weighed, strict=True):
                if self.test.breaches(self.last, self.stretch.open):
                    return (end - self.ends[0]) // SLOT
        return self.stretch.count

    def learn(self, count: int) -> Any:
        """State after the first ``count`` buckets."""
        if count == self.quiet == self.stretch.count:
            return self.last
        for ends in split_at_ten_minutes([end for end in self.ends[:count] if end % MINUTE == 0]):
            for _ in self.test.minutes(self.state, self.stretch.windows, ends, self.stretch.open):
                pass
        return self.state


class MinuteTable:
    """Runs the test of each app when a minute has ended; see ``BoundTable``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.trials: dict[int, Trial] = {}

    def resize(self, apps: int, rows: int) -> None:
        """There are no arrays."""

    def put(self, guard: Guard, bound: Any) -> None:
        """See ``BoundTable``."""
        self.trials[guard.number] = guard.trials[self.name] = bound.trial

    def clear(self, guard: Guard) -> None:
        """See ``BoundTable``."""
        self.trials.pop(guard.number, None)

    def grow(self, guard: Guard, before: int) -> None:
        """New series are in no array of this table."""

    def add(self, rows: Rows) -> None:
        """Open buckets are not judged."""

    def may_find(self, guards: Sequence[Guard]) -> set[int]:
        """Return the apps of which the last minute leaves a finding."""
        known = [self.trials[guard.number] for guard in guards if guard.number in self.trials]
        for trial in known:
            if trial.is_due():
                with raising(self.name, trial.windows.app):
                    trial.advance()
        return {guard.number for guard in guards if guard.number in self.trials and self.trials[guard.number].found}


class MinuteBound:
    """Of one app: a copy of the test, which weighs each minute when it ends."""

    table: ClassVar[type[BoundTable] | None] = MinuteTable
    always: ClassVar[bool] = False

    def __init__(self, test: MinuteTest[Any], state: Any, ahead: Ahead) -> None:
        self.trial = Trial(test, state, ahead)


def weigh_minute(test: MinuteTest[S], state: S, windows: Windows, end: int, open_: Mapping[str, int]) -> None:
    """Weigh and learn one minute, in place."""
    for _ in test.minutes(state, windows, [end], open_):
        pass


def split_at_ten_minutes(ends: Sequence[int]) -> list[list[int]]:
    """Ends of minutes, split after each that ends ten minutes."""
    return [list(each) for _, each in groupby(ends, lambda end: (end - 1) // TEN_MINUTES)]


def copied(state: S) -> S:
    """Return a copy of a state of arrays, lists and dicts of values that do not change, and values."""
    found = copy(state)
    for name, value in vars(found).items():
        if isinstance(value, np.ndarray | list | dict):
            setattr(found, name, value.copy())
    return found


def fit_rows(state: Any, names: Sequence[str], arrays: Mapping[str, tuple[int, ...]]) -> None:
    """Make ``state.names`` and each of its ``arrays`` (name -> shape of a row) those of the series ``names``, in place.

    What was learned of a series that was evicted is cleared.
    """
    before = len(state.names)
    for row in [row for row, (old, new) in enumerate(zip(state.names, names, strict=False)) if old != new]:
        for name in arrays:
            getattr(state, name)[row] = 0
    if before < len(names):
        for name, shape in arrays.items():
            array = getattr(state, name)
            more = np.zeros((len(names) - before, *shape), array.dtype)
            setattr(state, name, np.concatenate([array.reshape(before, *shape), more]))
    state.names = list(names)


def resolved(state: Any, family: str, start: int, proven: int) -> None:
    """Reset the evidence, in place; neither the incident nor the time until its end was proven will be learned."""
    kept = [m for m in state.muted if m[2] > start - 2 * RING * SLOT]
    state.muted = [*kept, (family, start, proven)]
    state.log[:], state.found[:] = 0.0, False


def is_muted(muted: Sequence[tuple[str, int, int]], open_: Mapping[str, int], family: str, start: int) -> bool:
    """Whether a minute belongs to an incident of ``family``, which is open or over."""
    if family in open_ and start + MINUTE > open_[family]:
        return True
    return any(name == family and start + MINUTE > since and start < until for name, since, until in muted)
