"""The golden set: test cases from calls that failed in production.

A refresh goes: ``stand`` of ``warehouse/golden/versions.py`` reads one snapshot → ``cases`` turns each failed call into
a case and redacts it → ``choose`` keeps, drops and draws cases, with ``similar`` finding texts that are nearly the
same → ``write`` of ``warehouse/golden/versions.py``. ``settings`` defines which failures a refresh reads. Everything
between the read and the write is a function of values: the same lake, window and settings give the same set.
"""

from jobs.golden.cases import content_hash, redactor
from jobs.golden.export import openai, promptfoo
from jobs.golden.job import PRODUCTION, GoldenBusyError, refresh
from jobs.golden.report import GoldenReport
from jobs.golden.settings import LOWER_IS_BETTER, GoldenSettings

__all__ = [
    "LOWER_IS_BETTER",
    "PRODUCTION",
    "GoldenBusyError",
    "GoldenReport",
    "GoldenSettings",
    "content_hash",
    "openai",
    "promptfoo",
    "redactor",
    "refresh",
]
