"""The state of the alerts of one app: open incidents, resolved ones that may be reopened, and what they add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from pipelines.alerts.finding import Finding
from pipelines.alerts.recovery import Recovery
from pipelines.alerts.whole_app import WholeApp, widened

State = Literal["firing", "update", "resolved"]
Sums = Sequence[int] | NDArray[np.int64]
"""Of one series, by column."""


class Incident(msgspec.Struct, kw_only=True):
    """One open alert, or one that was resolved and may be reopened."""

    id: str
    fingerprint: str
    finding: Finding
    """As it was when fired; ``children`` and ``end`` follow."""
    seq: int = 0
    emitted_at: int = msgspec.field(default=0, name="told")  # the key in stored states
    """Wall time of the last message, µs UTC; 0 = a message is due."""
    followers: list[str] = []
    """Families with the same cause: they are open and end with this incident."""
    total: dict[int, int] = {}
    """Column -> sum of the target series over the closed slots since the start, late rows included."""
    after: dict[int, int] = {}
    """Column -> the part of ``total`` since ``recovery.since``: it is not part of the incident, if that was its end."""
    recovery: Recovery = msgspec.field(default_factory=Recovery)
    emitted_excess: float = 0.0
    """``recovery.excess`` at the last message: USD, tokens or calls beyond what is normal."""
    whole: WholeApp = msgspec.field(default_factory=WholeApp)
    """The app's own series, where this is an incident of one below it."""

    def add(self, start: int, sums: Sums, closed: int) -> None:
        """Add a rollup row of the target series that came after its slot had closed; the others count as they close.

        Args:
            start: of its bucket, µs UTC.
            sums: by column.
            closed: start of the first bucket that is still open, µs UTC.
        """
        if not self.finding.start <= start < closed:
            return
        _add(self.total, sums)
        if self.recovery.since and self.recovery.since <= start:
            _add(self.after, sums)

    def count(self, sums: Sums) -> None:
        """Add the sums of slots that have closed."""
        _add(self.total, sums)

    def add_whole(self, start: int, sums: Sums, closed: int) -> None:
        """As ``add``, for a row of the app's own series."""
        if self.finding.start <= start < closed:
            _add(self.whole.total, sums)

    def count_whole(self, sums: Sums) -> None:
        """Add the sums of buckets of the app's own series that have closed."""
        _add(self.whole.total, sums)

    def widen(self, app: Finding, until: int, *, reopened: bool = False) -> None:
        """Become an incident of the series of ``app``, which holds that of this incident; a message is due.

        Args:
            app: of the app's own series, now.
            until: end of the last bucket that is in the tally of the app, µs UTC.
            reopened: whether the incident was resolved before.
        """
        self.finding = widened(self.finding, app)
        self.recovery, self.total, self.after = self.whole.recovery(until, reopened=reopened), self.whole.total, {}
        self.whole, self.emitted_at = WholeApp(), 0

    def count_after(self, sums: Sums, start: int) -> None:
        """Count a slot that has closed, from ``start`` (µs UTC), as being after the incident or not."""
        if 0 < self.recovery.since <= start:
            self.after = self.after or dict.fromkeys(self.total, 0)
            _add(self.after, sums)
        else:
            self.after = {}

    def take_back(self, sums: Sums, after: Sums) -> None:
        """Subtract the sums of slots that will be read again, and the part of them that is in ``after``."""
        _add(self.total, sums, -1)
        _add(self.after, after, -1)


class Closed(msgspec.Struct):
    """An incident that was resolved, and until when (event time, µs UTC) a breach reopens it."""

    incident: Incident
    until: int


@dataclass
class Lifecycle:
    """State of the alerts of one app."""

    held: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Family -> (wall, event time) when it was first found."""
    open: dict[str, Incident] = field(default_factory=dict)
    cooling: dict[str, int] = field(default_factory=dict)
    """Family, or family and target -> event time until which they do not fire, with any measure."""
    closed: dict[str, Closed] = field(default_factory=dict)
    """Family and target -> its incident, until its cooldown has passed."""

    def counted(self) -> list[Incident]:
        """Incidents whose sums go on: open ones, and those that may be reopened."""
        return [*self.open.values(), *(closed.incident for closed in self.closed.values())]


class Transition(msgspec.Struct, frozen=True):
    """One state change, to become one alert message. ``firing`` with ``seq`` above 0 reopens a resolved incident."""

    state: State
    incident: Incident
    finding: Finding
    accepted: bool = False
    """Resolved because it lasted so long that it is the new normal; its values did not fall."""


def _add(held: dict[int, int], sums: Sums, sign: int = 1) -> None:
    for column in held:
        held[column] += sign * int(sums[column]) if column < len(sums) else 0
