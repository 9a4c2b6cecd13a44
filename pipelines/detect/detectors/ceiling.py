"""``ceiling``, as settings and alerts call this detector: one call that costs more than an absolute limit.

Nothing is learned: it judges an app from its first call on.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Bucket, Terms
from pipelines.detect.bounds import Ahead, Bound, CannotFind, Rows
from pipelines.detect.detectors.base import View
from pipelines.detect.items import COLUMN
from pipelines.detect.stretch import Stretch
from pipelines.detect.windows import RING, SLOT
from schemas.rollups import series_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.detect.bounds import BoundTable
    from pipelines.detect.guards import Guard
    from pipelines.detect.windows import Windows

_COST = COLUMN["cost_nanousd"]


@dataclass
class SingleCallState:
    """``cut``: no call before it (µs UTC) is judged again."""

    version: int = 1
    cut: int = 0


@dataclass(frozen=True)
class SingleCallScan:
    """One stretch: there is nothing to learn."""

    state: SingleCallState
    quiet: int

    def learn(self, count: int) -> SingleCallState:
        """The state as it was."""
        return self.state


class SingleCallBoundTable:
    """The last bucket of each app with a call over the limit."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.last: dict[int, int] = {}
        """App -> its start."""
        self.bounds: dict[int, tuple[Guard, SingleCallBound]] = {}
        self.least = np.inf
        """The lowest limit of all apps, USD."""
        self.moved: set[tuple[int, int]] = set()
        """(app, start) of buckets to look at again."""

    def resize(self, apps: int, rows: int) -> None:
        """There are no arrays."""

    def put(self, guard: Guard, bound: SingleCallBound) -> None:
        """See ``BoundTable``."""
        self.bounds[guard.number], self.least = (guard, bound), min(self.least, bound.limit_usd)
        begin = max(guard.until - RING * SLOT, bound.cut)
        costly = _costly(guard.windows, bound.app, bound.limit_usd, begin, guard.until)
        self.moved |= {(guard.number, start) for start in costly}

    def clear(self, guard: Guard) -> None:
        """See ``BoundTable``."""
        self.bounds.pop(guard.number, None)
        self.last.pop(guard.number, None)

    def grow(self, guard: Guard, before: int) -> None:
        """Only the app's own series is looked at."""

    def add(self, rows: Rows) -> None:
        """Look at a bucket again, if a row in it costs as much as a call over the limit."""
        costs, least = rows.sums[:, _COST], self.least * (1 - 1e-9)
        if len(costs) and int(costs.max()) * 1e-9 >= least:
            which = np.repeat(np.arange(len(rows.parts)), rows.sizes)
            self.moved |= {rows.parts[i][:2] for i in which[costs * 1e-9 >= least].tolist()}

    def may_find(self, guards: Sequence[Guard]) -> set[int]:
        """Whether the last bucket with a call over the limit is in the ring."""
        for number, start in self.moved:
            guard, bound = self.bounds.get(number, (None, None))
            slot = guard.windows.slots.get(start) if guard else None
            if bound and slot and slot.most_expensive(bound.app) * 1e-9 >= bound.limit_usd:
                self.last[number] = max(self.last.get(number, 0), start)
        self.moved.clear()
        return {number for number, last in self.last.items() if self._is_in_ring(last, *self.bounds[number])}

    def _is_in_ring(self, start: int, guard: Guard, bound: SingleCallBound) -> bool:
        return start >= max(guard.windows.latest() - RING * SLOT, bound.cut)


@dataclass(frozen=True)
class SingleCallBound:
    """Of one app."""

    table: ClassVar[type[BoundTable] | None] = SingleCallBoundTable
    always: ClassVar[bool] = False
    limit_usd: float
    cut: int
    app: int
    """Place of the app's own series."""


@dataclass(frozen=True)
class SingleCallLimit:
    """One call over ``limit_usd``."""

    name: ClassVar[str] = "ceiling"
    limit_usd: float = 10.0

    def initial_state(self) -> SingleCallState:
        """State of an app never seen."""
        return SingleCallState()

    def step(self, state: SingleCallState, view: View) -> tuple[SingleCallState, list[Finding]]:
        """Judge the most expensive calls of the app's own series."""
        over_limit = self._over_limit(view, max(view.until - RING * SLOT, state.cut), view.until)
        if not over_limit:
            return state, []
        start = min(slot for slot, _, _ in over_limit)
        top = max(value for _, value, _ in over_limit)
        target = view.windows.series[view.app]
        return state, [
            Finding(
                detector=self.name,
                rule="single_call_cost",
                family="single_call",
                severity="critical",
                measure="cost",
                target=target,
                series=series_pairs(target),
                start=start,
                end=view.until,
                observed=top,
                expected=self.limit_usd,
                score=round(top / self.limit_usd, 3),
                unit="USD",
                peak=top,
                excess=top - self.limit_usd,
                calls=len(over_limit),
                call_ids=tuple(call for _, _, call in sorted(over_limit, key=lambda d: (-d[1], d[2])))[:10],
            )
        ]

    def scan(self, state: SingleCallState, stretch: Stretch) -> SingleCallScan:
        """The same over many buckets, while nothing is open."""
        quiet = stretch.count
        if "single_call" in stretch.open:
            return SingleCallScan(state, quiet)
        # a bucket that costs less than the limit has no call over it
        own = (stretch.places == stretch.app) & (stretch.sums[:, _COST] * 1e-9 >= self.limit_usd * (1 - 1e-9))
        for step in np.unique(stretch.steps[own]).tolist():
            start = stretch.first + (step - RING) * SLOT
            seen = max(0, step - RING)
            top = stretch.windows.slots[start].most_expensive(stretch.app)
            if start >= max(stretch.first + (seen + 1 - RING) * SLOT, state.cut) and top * 1e-9 >= self.limit_usd:
                quiet = min(quiet, seen)
        return SingleCallScan(state, quiet)

    def bound(self, state: SingleCallState, ahead: Ahead) -> Bound:
        """Whether a call over the limit is in the ring."""
        return CannotFind() if "single_call" in ahead.open else SingleCallBound(self.limit_usd, state.cut, ahead.app)

    def idle(self, state: SingleCallState, slots: int) -> SingleCallState:
        """There is nothing to learn."""
        return state

    def observe(
        self, state: SingleCallState, view: View, finding: Finding, since: int, until: int
    ) -> tuple[Terms, list[Bucket]]:
        """Calls over the limit per slot, where none is normal; at most as many as a slot keeps."""
        over = Counter(slot for slot, _, _ in self._over_limit(view, since, until))
        buckets = [Bucket(float(over[slot]), 1.0, float(over[slot])) for slot in range(since, until, SLOT)]
        return Terms(normal=0.0, limit=0.0), buckets

    def has_steady_terms(self, state: SingleCallState, finding: Finding, slot: int) -> bool:
        """The limit is a setting."""
        return True

    def about_app(self, state: SingleCallState, view: View, finding: Finding) -> Finding:
        """Findings are always about the app."""
        return finding

    def on_resolved(self, state: SingleCallState, finding: Finding, end: int, proven: int) -> SingleCallState:
        """Calls before ``end`` have been emitted."""
        state.cut = end
        return state

    def _over_limit(self, view: View, since: int, until: int) -> list[tuple[int, float, str]]:
        return [
            (start, value * 1e-9, call)
            for start in _costly(view.windows, view.app, self.limit_usd, since, until)
            if view.windows.slots[start].most_expensive(view.app) * 1e-9 >= self.limit_usd
            for value, call in view.windows.slots[start].shown().get((view.app, "cost"), ())
            if value * 1e-9 >= self.limit_usd
        ]


def _costly(windows: Windows, app: int, limit_usd: float, since: int, until: int) -> list[int]:
    """Starts in [since, until) of the buckets that may hold a call over the limit: those that cost as much.

    The calls of the others need not be read.
    """
    least = limit_usd * (1 - 1e-9)
    return [start for start in windows.held(since, until) if windows.slots[start].value(app, _COST) * 1e-9 >= least]
