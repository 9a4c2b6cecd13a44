"""ceiling: any single call dearer than an absolute limit, at once, learned or not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Bucket, Terms
from pipelines.detect.bounds import Ahead
from pipelines.detect.detectors.base import View
from pipelines.detect.items import COLUMN
from pipelines.detect.stretch import Stretch
from pipelines.detect.windows import RING, SLOT, Floats, Matrix
from schemas.rollups import series_pairs

_COST = COLUMN["cost_nanousd"]


@dataclass
class CeilingState:
    """Nothing before this is looked at again."""

    version: int = 1
    cut: int = 0


@dataclass(frozen=True)
class CeilingScan:
    """One stretch: there is nothing to learn."""

    state: CeilingState
    quiet: int

    def learn(self, count: int) -> CeilingState:
        """The state as it was."""
        return self.state


class CeilingBound:
    """The last bucket with a call over the limit."""

    def __init__(self, limit_usd: float, cut: int, ahead: Ahead) -> None:
        self.limit_usd, self.cut, self.windows, self.app = limit_usd, cut, ahead.windows, ahead.app
        self.last, self.never = 0, "single_call" in ahead.open
        self.moved = set(ahead.windows.held(max(ahead.until - RING * SLOT, cut), ahead.until))

    def add(self, start: int, places: Matrix, sums: Matrix) -> None:
        """Look at that bucket again, if a row in it costs as much as a call over the limit."""
        if len(sums) and int(sums[:, _COST].max()) * 1e-9 >= self.limit_usd * (1 - 1e-9):
            self.moved.add(start)

    def close(self, start: int) -> None:
        """Nothing changes."""

    def may_find(self, until: int) -> bool:
        """Whether the last one is in the ring."""
        slots = self.windows.slots
        for start in self.moved:
            if start in slots and slots[start].most_expensive(self.app) * 1e-9 >= self.limit_usd:
                self.last = max(self.last, start)
        self.moved.clear()
        return bool(self.last) and not self.never and self.last >= max(until - RING * SLOT, self.cut)

    def spare(self, slack: Floats) -> bool:
        """A row with a call over the limit costs as much."""
        if not self.never:
            slack[_COST] = min(slack[_COST], self.limit_usd * 1e9 * (1 - 1e-9))
        return True


@dataclass(frozen=True)
class Ceiling:
    """One call over ``limit_usd``."""

    name: ClassVar[str] = "ceiling"
    limit_usd: float = 10.0

    def fresh(self) -> CeilingState:
        """State of an app never seen."""
        return CeilingState()

    def step(self, state: CeilingState, view: View) -> tuple[CeilingState, list[Finding]]:
        """Look at the dearest calls of the app's own series."""
        dear = self._dear(view, max(view.until - RING * SLOT, state.cut), view.until)
        if not dear:
            return state, []
        start = min(slot for slot, _, _ in dear)
        top = max(value for _, value, _ in dear)
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
                calls=len(dear),
                call_ids=tuple(call for _, _, call in sorted(dear, key=lambda d: (-d[1], d[2])))[:10],
            )
        ]

    def scan(self, state: CeilingState, stretch: Stretch) -> CeilingScan:
        """The same over many buckets, while nothing is open."""
        windows, first, quiet = stretch.windows, stretch.first, stretch.count
        for start in windows.held(max(first - RING * SLOT, state.cut), first + stretch.count * SLOT):
            seen = max(0, (start - first) // SLOT)
            top = windows.slots[start].most_expensive(stretch.app)
            if start >= first + (seen + 1 - RING) * SLOT and top * 1e-9 >= self.limit_usd:
                quiet = min(quiet, seen)
        return CeilingScan(state, quiet)

    def bound(self, state: CeilingState, ahead: Ahead) -> CeilingBound:
        """Whether a call over the limit is in the ring."""
        return CeilingBound(self.limit_usd, state.cut, ahead)

    def idle(self, state: CeilingState, slots: int) -> CeilingState:
        """Nothing to see."""
        return state

    def observe(
        self, state: CeilingState, view: View, finding: Finding, since: int, until: int
    ) -> tuple[Terms, list[Bucket]]:
        """Calls over the limit per slot, where none is normal; at most as many as a slot keeps."""
        over = Counter(slot for slot, _, _ in self._dear(view, since, until))
        buckets = [Bucket(float(over[slot]), 1.0, float(over[slot])) for slot in range(since, until, SLOT)]
        return Terms(normal=0.0, limit=0.0), buckets

    def about_app(self, state: CeilingState, view: View, finding: Finding) -> Finding:
        """It always is."""
        return finding

    def on_resolved(self, state: CeilingState, finding: Finding, end: int, proven: int) -> CeilingState:
        """Calls before ``end`` have been emitted."""
        state.cut = end
        return state

    def _dear(self, view: View, since: int, until: int) -> list[tuple[int, float, str]]:
        return [
            (start, value * 1e-9, call)
            for start in view.windows.held(since, until)
            if view.windows.slots[start].most_expensive(view.app) * 1e-9 >= self.limit_usd
            for value, call in view.windows.slots[start].shown().get((view.app, "cost"), ())
            if value * 1e-9 >= self.limit_usd
        ]
