"""The golden set: test cases out of what failed in production.

A refresh goes: ``warehouse.golden.stand`` reads one snapshot → ``cases`` makes each failed call a case and redacts it →
``choose`` keeps, drops and draws, with ``similar`` telling what says nearly the same → ``warehouse.golden.write``.
``settings`` says where a refresh looks, and for what. Between the two walls everything is a function of values: the
same lake, window and settings give the same set.
"""

from jobs.golden.cases import content_hash, redactor
from jobs.golden.export import openai, promptfoo
from jobs.golden.job import PRODUCTION, GoldenBusyError, GoldenReport, refresh
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
