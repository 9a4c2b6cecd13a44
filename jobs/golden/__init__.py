"""The golden set: test cases out of what failed in production.

A refresh goes: ``warehouse.golden.stand`` reads one snapshot → ``cases`` makes each failed call a case and redacts it →
``choose`` keeps, drops and draws, with ``similar`` telling what says nearly the same → ``warehouse.golden.write``.
Between the two walls everything is a function of values: the same lake, window and settings give the same set.
"""

from jobs.golden.cases import content_hash
from jobs.golden.choose import GoldenSettings
from jobs.golden.export import openai, promptfoo
from jobs.golden.job import PRODUCTION, GoldenBusyError, GoldenReport, refresh

__all__ = [
    "PRODUCTION",
    "GoldenBusyError",
    "GoldenReport",
    "GoldenSettings",
    "content_hash",
    "openai",
    "promptfoo",
    "refresh",
]
