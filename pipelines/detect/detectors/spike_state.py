"""State of ``spike`` for one app, and the measures that it compares."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.detect.detectors.baseline import Level, Records

MEASURES = ("cost", "tokens", "calls", "cost_per_call", "tokens_per_call")
UNITS = ("USD", "tokens", "calls", "USD/call", "tokens/call")
BASE = (0, 1, 2, 0, 1)
"""The total that a measure is computed from."""


@dataclass
class SpikeState:
    """Learned levels and records of the series of one app."""

    version: int = 1
    level: Level = field(default_factory=Level)
    records: Records = field(default_factory=lambda: Records.empty(5, 2))
    pool: Records = field(default_factory=lambda: Records.empty(3, 2))
    """Of series of high cardinality, by group: highest share of the app's normal volume in one value."""
    muted: list[tuple[int, int]] = field(default_factory=list)
    cut: int = 0
    """End of the last incident: no window begins before it."""
