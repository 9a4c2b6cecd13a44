"""Why a number changed: which values explain it, and by which factors. Pure."""

from pipelines.alerts.cause.ranking import Explained, explain
from pipelines.alerts.cause.split import Split, Totals, split

__all__ = ["Explained", "Split", "Totals", "explain", "split"]
