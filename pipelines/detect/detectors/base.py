"""The protocol of detectors, and the view of an app that they judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Bucket, Terms
from pipelines.detect.bounds import Ahead, Bound
from pipelines.detect.stretch import Scan, Stretch
from pipelines.detect.windows import SLOT, Matrix, Windows

State = Any
"""A dataclass of numbers and arrays; ``pipelines.detect.snapshot`` writes and reads it."""


class Opening(int):
    """Start of an open incident, µs UTC, and which series it is of."""

    target: str = ""
    """Series below the app, or the app's own."""

    @classmethod
    def of(cls, finding: Finding) -> Opening:
        """Return that of the incident of ``finding``."""
        found = cls(finding.start)
        found.target = finding.target
        return found


@dataclass
class View:
    """One app at one moment of event time."""

    windows: Windows
    app: int
    """Place of the app's own series."""
    until: int
    """End of the newest slot to judge, µs UTC."""
    closed: int | None = None
    """Start of the slot that has just closed; None where only open slots grew."""
    evicted: Matrix | None = None
    """Sums (series, columns) of the slot that was just evicted from the ring: now it may be learned."""
    open: dict[str, int] = field(default_factory=dict)
    """Family of every open incident -> its start, an ``Opening`` where its series is known."""

    def __post_init__(self) -> None:
        self._totals: dict[tuple[int, int], Matrix] = {}

    def total(self, slots: int, cut: int = 0) -> Matrix:
        """Sums over the last ``slots`` slots, none before ``cut``."""
        since = max(self.until - slots * SLOT, cut)
        if (slots, since) not in self._totals:
            self._totals[slots, since] = self.windows.total(since, self.until)
        return self._totals[slots, since]


class Detector(Protocol):
    """Judges the rollups of one app, in offset order. Pure: no clock, no I/O; the state is serialisable and versioned.

    ``step`` may change the given state in place; use the returned one after it.
    """

    name: ClassVar[str]

    def initial_state(self) -> State:
        """Return the state of a new app."""

    def step(self, state: State, view: View) -> tuple[State, list[Finding]]:
        """Learn the slot that left the ring; return the abnormal values now, at most one finding per family."""

    def scan(self, state: State, stretch: Stretch) -> Scan:
        """Go through buckets that close while nothing is open; ``scan.learn`` moves the state as ``step`` would."""

    def bound(self, state: State, ahead: Ahead) -> Bound:
        """Return what open buckets must hold before ``step`` may find anything in a look at them."""

    def idle(self, state: State, slots: int) -> State:
        """Learn several slots without a call in one step."""

    def observe(self, state: State, view: View, finding: Finding, since: int, until: int) -> tuple[Terms, list[Bucket]]:
        """Terms of now and closed slots in [since, until), by which recovery of the incident is tested."""

    def has_steady_terms(self, state: State, finding: Finding, slot: int) -> bool:
        """Whether the terms of an open incident are the same before and after the bucket at ``slot`` was learned."""

    def about_app(self, state: State, view: View, finding: Finding) -> Finding:
        """``finding`` as one of the app's own series, with what is expected of that."""

    def on_resolved(self, state: State, finding: Finding, end: int, proven: int) -> State:
        """End the incident at ``end``, as proven at ``proven`` (µs UTC): it must not fire again or be learned."""


def fit(array: np.ndarray[Any, Any], rows: int, columns: int | None = None) -> np.ndarray[Any, Any]:
    """Grow ``array`` with zeros to ``rows`` (and ``columns``)."""
    grow = [(0, max(0, rows - array.shape[0]))] + [(0, 0)] * (array.ndim - 1)
    if columns is not None:
        grow[1] = (0, max(0, columns - array.shape[1]))
    return np.pad(array, grow) if any(n for _, n in grow) else array
