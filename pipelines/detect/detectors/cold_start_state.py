"""State of ``cold_start`` for one app."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.detect.detectors.spike_scan import WINDOWS
from pipelines.detect.windows import RING

SPEND, ERRORS = "spend", "errors"
"""Families."""


@dataclass
class ColdStartState:
    """What is learned in the first minutes of one app."""

    version: int = 1
    recent: list[int] = field(default_factory=list)
    """nano-USD of the last slots that left the ring and were normal, at most RING."""
    highest: list[float] = field(default_factory=lambda: [0.0] * len(WINDOWS))
    """Highest mean USD per slot in a normal window of each length, once there are RING slots."""
    calls: int = 0
    """Calls in normal slots."""
    muted: list[tuple[int, int]] = field(default_factory=list)
    """Times of incidents, which are not learned."""
    cuts: dict[str, int] = field(default_factory=dict)
    """Family -> end of its last incident: no window begins before it."""

    def learn(self, cost: int, calls: int) -> None:
        """Add one slot that left the ring."""
        self.recent = [*self.recent, cost][-RING:]
        self.calls += calls
        if len(self.recent) == RING:
            for i, slots in enumerate(WINDOWS):
                self.highest[i] = max(self.highest[i], sum(self.recent[-slots:]) / 1e9 / slots)

    def is_muted(self, slot: int) -> bool:
        """Whether ``slot`` belongs to an incident."""
        return any(start <= slot < end for start, end in self.muted)
