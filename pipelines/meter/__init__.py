"""Meter: what calls cost and do, a row a series and second, within about a second; exactly once by transactions."""

from pipelines.meter.merge import combine, merge
from pipelines.meter.plan import Plan
from pipelines.meter.rollup import roll_up
from pipelines.meter.stage import MeterConfig, run

__all__ = ["MeterConfig", "Plan", "combine", "merge", "roll_up", "run"]
