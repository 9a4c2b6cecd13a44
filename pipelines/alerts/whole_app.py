"""An incident of one user, feature or model that is over there and goes on in the app as a whole.

Where traffic is low the first calls of an incident may all come from one user: the alert names that user, and is over
there while the app goes on. So the app's own series is tallied beside that of the incident. When the narrow series has
recovered and the app has not, the incident becomes one of the app: same id, one ``update``. It is not resolved and
found again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from pipelines.alerts.grouping import child
from pipelines.alerts.recovery import Recovery, RecoveryConfig, Tally, Terms, breaches_since

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.alerts.finding import Finding
    from pipelines.alerts.recovery import Bucket


class WholeApp(msgspec.Struct):
    """What the app's own series holds since the start of an incident of a series below it."""

    total: dict[int, int] = {}
    """Column -> sum over the closed buckets."""
    seen: Tally = Tally()
    before: Tally | None = None
    """``seen`` up to where the narrow series began to recover; None while it does not."""
    excess: float = 0.0
    """Value beyond the learned rate."""

    def absorb(self, terms: Terms, buckets: Sequence[Bucket], narrow: Recovery) -> None:
        """Add buckets of the app; ``narrow`` is the test of the incident's own series, after the same buckets."""
        for bucket in buckets[:-1]:
            self._add(terms, bucket)
        if narrow.before is None:
            self.before = None
        elif self.before is None:
            self.before = self.seen
        self._add(terms, buckets[-1])

    def goes_on(self, terms: Terms, config: RecoveryConfig) -> bool:
        """Whether the app, since the narrow series recovered, has a rate that raises an alarm by itself."""
        return bool(self.total) and self.before is not None and breaches_since(self.seen, self.before, terms, config)

    def recovery(self, until: int, *, reopened: bool = False) -> Recovery:
        """The test of the app's own series, to go on from ``until`` (µs UTC)."""
        return Recovery(seen=self.seen, until=until, excess=self.excess, reopened=reopened)

    def _add(self, terms: Terms, bucket: Bucket) -> None:
        self.seen = self.seen.add(bucket)
        self.excess += bucket.value - terms.normal * bucket.exposure


def widened(known: Finding, app: Finding) -> Finding:
    """The incident ``known`` as one of the series of ``app``, since its own start; what it was first is a child."""
    severity = "critical" if "critical" in (known.severity, app.severity) else known.severity
    first = child(known)
    children = known.children if first in known.children else (*known.children, first)
    return replace(
        app,
        rule=known.rule,
        measure=known.measure,
        unit=known.unit,
        severity=severity,
        start=known.start,
        children=(*children, *(c for c in app.children if c not in children)),
    )


def is_below(known: Finding, finding: Finding) -> bool:
    """Whether the series of ``known`` is a part of that of ``finding``."""
    return known.family == finding.family and known.series.items() > finding.series.items()
