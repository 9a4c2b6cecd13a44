"""What one run of a job that raises alerts found; each job adds its own counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import fields

import msgspec

from schemas.alerts import Alert


class AlertReport(ABC):
    """Base of such reports, which are dataclasses. Their fields, in their order, are the keys of ``--json``."""

    alerts: tuple[Alert, ...]
    """State changes, to be published."""
    took_s: float
    problem: str = ""
    """Why nothing was judged."""

    @property
    def ok(self) -> bool:
        """An alert is no failure of the job."""
        return not self.problem

    @property
    @abstractmethod
    def counts(self) -> str:
        """What was judged, in words."""

    def to_json(self) -> str:
        """Encode for ``--json``."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        found["alerts"] = [{"id": a.id, "seq": a.seq, "state": a.state, "title": a.title} for a in self.alerts]
        return msgspec.json.encode(found).decode()

    def text(self) -> str:
        """Return the run in words."""
        if self.problem:
            return f"not judged: {self.problem}"
        head = f"ok in {self.took_s:.1f} s: {self.counts}, {len(self.alerts)} alerts"
        return "\n".join([head, *(f"  {alert.state} {alert.title}" for alert in self.alerts)])
