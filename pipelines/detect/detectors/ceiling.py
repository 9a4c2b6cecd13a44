"""ceiling: any single call dearer than an absolute limit, at once, learned or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pipelines.alerts.finding import Finding
from pipelines.detect.detectors.base import View
from pipelines.detect.windows import RING, SLOT, Slot
from schemas.rollups import series_pairs


@dataclass
class CeilingState:
    """Nothing before this is looked at again."""

    version: int = 1
    cut: int = 0


@dataclass(frozen=True)
class Ceiling:
    """One call over ``limit_usd``."""

    name: ClassVar[str] = "ceiling"
    limit_usd: float = 10.0
    calm_slots: int = 6
    """Slots without such a call before it is over."""

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

    def idle(self, state: CeilingState, slots: int) -> CeilingState:
        """Nothing to see."""
        return state

    def calm(self, state: CeilingState, view: View, finding: Finding) -> int:
        """No such call for ``calm_slots``."""
        until = view.windows.closed
        since = until - self.calm_slots * SLOT
        return 0 if since <= finding.start or self._dear(view, since, until) else since

    def settle(self, state: CeilingState, finding: Finding, end: int) -> CeilingState:
        """Calls before ``end`` have been told."""
        state.cut = end
        return state

    def _dear(self, view: View, since: int, until: int) -> list[tuple[int, float, str]]:
        return [
            (start, value * 1e-9, call)
            for start in range(since, until, SLOT)
            for value, call in view.windows.slots.get(start, Slot()).exemplars.get((view.app, "cost"), ())
            if value * 1e-9 >= self.limit_usd
        ]
