"""How a golden set is made: its options, and the window in which a refresh looks for failures. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.golden.cases import KINDS
from pipelines.meter.measures import REFUSED, TRUNCATED
from warehouse.golden.failed_calls import Criteria, Window

NOT_PRODUCTION = (
    *("test", "tests", "testing", "dev", "devel", "develop", "development", "local", "localhost"),
    *("staging", "stage", "stg", "qa", "uat", "ci", "sandbox", "preview"),
)
"""Names of environments that are not production."""
LOWER_IS_BETTER = (
    *("toxic", "hallucinat", "bias", "harm", "hate", "insult", "threat", "profan", "violen", "unsafe", "risk"),
    *("sexual", "illicit", "obscen"),
    *("pii", "leak", "injection", "jailbreak", "violat", "refus", "error", "noise"),
    *("distance", "perplexity", "latency", "cost"),
)
"""Words in the names of scorers whose low scores are good."""
HIGHER_IS_BETTER = ("harmless", "unbias", "robust", "recover", "resist")
"""Words that reverse this: high scores of harmlessness, robustness to injections, recovery from errors are good."""
FARTHEST_DAYS = 35
"""Longest window of a refresh after missed ones: a month, and the days until it was noticed."""
TRAFFIC_DAYS = 28
"""A topic without a call for this time has ended."""
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class GoldenSettings:
    """How a golden set is made."""

    days: int = 7
    """Failures of at least this number of days are read, counted from the start of a day."""
    size: int = 200
    """Cases that a set aims at. Accepted ones stay even where they are more."""
    turnover: float = 0.3
    """Share of ``size`` that new cases may replace within half of ``days``."""
    similarity: float = 0.8
    """Jaccard index of the shingles from which on two cases are near duplicates."""
    healthy: float = 0.0
    """Share of ``size`` for calls that did not fail, drawn at random."""
    traffic: int = 0
    """Calls of ``TRAFFIC_DAYS`` that are drawn and embedded, to cover the topics of the traffic; 0: no topics."""
    seed: int = 1
    """Draws among failures of equal severity."""
    keep_versions: int = 12
    """The newest versions; what is older is dropped when a set is refreshed."""
    envs: tuple[str, ...] = ()
    """Environments whose failures count. Empty: those that name none, and all but ``NOT_PRODUCTION``; ``*``: all."""
    low_scores: Mapping[str, float] = field(default_factory=dict)
    """Scorer -> score below which a call has failed, on the scale of the scorer; of other scorers 0.5, where the score
    is in 0..1.
    """
    lower_is_better: tuple[str, ...] = LOWER_IS_BETTER
    """Words in the names of scorers whose scores are no failure by themselves: only what they call failed is. A name
    with a word of ``HIGHER_IS_BETTER`` is none of them."""


def criteria(settings: GoldenSettings) -> Criteria:
    """Return what a failure is: of refusals and cut answers, what meter counts as such, and detect alerts on."""
    envs = tuple(env.casefold() for env in settings.envs)
    return Criteria(
        KINDS,
        refused=REFUSED,
        truncated=TRUNCATED,
        envs=() if "*" in envs else envs,
        not_envs=() if envs else NOT_PRODUCTION,
        low_scores=settings.low_scores,
        low_is_good=tuple(word.casefold() for word in settings.lower_is_better),
        high_is_good=HIGHER_IS_BETTER,
        healthy=_healthy(settings),
    )


def _healthy(settings: GoldenSettings) -> int:
    """Return half of the healthy calls to draw; where topics are covered there must be some of the rare ones."""
    share = math.ceil(settings.healthy * settings.size)
    return max(share, settings.traffic // 2) if share else 0


def traffic_window(at: int) -> Window:
    """Return the window of the traffic for a refresh at ``at`` (µs UTC); it begins with a day."""
    return Window(at - at % _DAY_US - TRAFFIC_DAYS * _DAY_US, at)


def window(settings: GoldenSettings, at: int, looked: Window | None) -> Window:
    """Return the window of failures for a refresh at ``at`` (µs UTC): ``days``, and all that no refresh has covered
    yet.

    It begins with a day, so that runs that are seconds late leave no gap, and calls that landed late are seen. One on
    the day of the last looks at the same again: to run it twice changes nothing.

    Args:
        settings: how many days.
        at: now.
        looked: what the last refresh of the set looked at; None where there was none.
    """
    today = at - at % _DAY_US
    since = today - settings.days * _DAY_US
    if looked:
        unseen = looked.until - looked.until % _DAY_US
        since = min(since, max(looked.since if unseen >= today else unseen, today - FARTHEST_DAYS * _DAY_US))
    return Window(since, at)
