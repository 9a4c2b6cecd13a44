"""The shipped suites: one file a table, one line each in ``SUITES``."""

from __future__ import annotations

from jobs.data_quality.suite import Suite
from jobs.data_quality.suites.calls import CALLS
from jobs.data_quality.suites.evals import EVALS
from jobs.data_quality.suites.feedback import FEEDBACK
from jobs.data_quality.suites.golden_cases import GOLDEN_CASES
from jobs.data_quality.suites.rollups import ROLLUPS

SUITES: tuple[Suite, ...] = (CALLS, FEEDBACK, EVALS, ROLLUPS, GOLDEN_CASES)
