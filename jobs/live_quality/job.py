"""One run over all labels of the lake. The same lake at the same moment gives the same alerts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime

import structlog

from jobs.alert_report import AlertReport
from jobs.landed_alerts import newest_alerts
from jobs.live_quality.alerts import DETECTOR, KNOWN_FOR, document_states, masks, states
from jobs.live_quality.documents import vanished
from jobs.live_quality.judge import Settings, judge
from jobs.live_quality.labels import read
from schemas.alerts import Alert
from warehouse.query.readonly import ReadOnlyLake

_DOCUMENTS_AT = range(5)
"""Minutes of the hour."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class LiveQualityReport(AlertReport):
    """What one run found."""

    series: int
    """Series that have labels enough to be judged."""
    alerts: tuple[Alert, ...]
    """State changes, to be published."""
    took_s: float
    problem: str = ""
    """Why nothing was judged."""

    @property
    def counts(self) -> str:
        """What was judged, in words."""
        return f"{self.series} series judged"


def live_quality(
    lake: ReadOnlyLake, until: datetime, settings: Settings, *, every_measure: bool = False
) -> LiveQualityReport:
    """Return the alerts on labels that are worse than usual; nothing is sent.

    Args:
        lake: what has landed, the alerts of earlier runs included.
        until: what landed later is not looked at.
        settings: when labels are worse.
        every_measure: documents, too, which are looked at once an hour otherwise: that reads every retrieval.

    Raises:
        LakeUnavailableError: the catalog or a file does not answer.
    """
    began = time.monotonic()
    known = newest_alerts(lake, DETECTOR, since=(until - KNOWN_FOR).date())
    labels = read(lake, until)
    over = masks((alert for alert in known if alert.state == "resolved"), until)
    verdicts = judge(labels.counts, int(labels.recent.timestamp()), masks(known, until), settings, over)
    found = states(verdicts, known, labels, settings)
    if until.minute in _DOCUMENTS_AT or every_measure:
        kept = [each for each in vanished(lake, until) if each.app not in settings.ignore]
        found += document_states(kept, known, until)
    took_s = round(time.monotonic() - began, 3)
    log.info("live_quality_judged", series=len(verdicts), alerts=len(found), took_s=took_s)
    return LiveQualityReport(len(verdicts), found, took_s)
