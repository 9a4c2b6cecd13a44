"""Live quality: labels as they arrive, compared with those of the two weeks before.

``labels`` reads thumbs, edits, scores, retrieval scores and citations, joined to their calls → ``judge`` tests each
series → ``alerts`` makes the alerts → ``job`` runs all of them. The weekly report judges a sample with all scorers.
"""

from jobs.live_quality.alerts import DETECTOR
from jobs.live_quality.job import LiveQualityReport, live_quality
from jobs.live_quality.judge import Settings

__all__ = ["DETECTOR", "LiveQualityReport", "Settings", "live_quality"]
