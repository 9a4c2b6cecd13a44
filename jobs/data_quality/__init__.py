"""Hourly data quality: Great Expectations over what landed in one hour.

Imports nothing heavy: ``validate`` loads Great Expectations, pandas and scipy (about 5 s of processor time and
260 MB), and only the process of the job does.
"""

from jobs.data_quality.job import DataQualityReport, DataQualitySettings, data_quality
from jobs.data_quality.suite import Check, Outcome, Suite, Window

__all__ = ["Check", "DataQualityReport", "DataQualitySettings", "Outcome", "Suite", "Window", "data_quality"]
