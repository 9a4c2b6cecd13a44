"""Finds the apps that stopped calling. Pure: the same history and the same moment give the same result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobs.no_calls.profile import DAY_MINUTES, Minutes, Profile, learn


@dataclass(frozen=True)
class Settings:
    """When an app counts as stopped; each field holds for every app."""

    chance: float = 1e-6
    """Probability of such a gap in a Poisson process of the app's own rates. At 1e-6, 14 calls must be missing."""
    longest: float = 2.0
    """Multiple of the longest gap of the history, in expected calls, that must be missing."""
    min_days: float = 2.0
    """Days of history below which an app is not judged."""
    min_calls: int = 30
    """Calls in the history below which an app is not judged."""
    min_gap: int = 5
    """Minutes without a call."""
    ignore: tuple[str, ...] = ()
    """Apps that may stop at any time."""


@dataclass(frozen=True)
class StoppedApp:
    """An app that stopped calling."""

    app: str
    since: int
    """The minute after its last call, minutes since 1970."""
    until: int
    """Judged up to here."""
    missing: float
    """Calls that were expected since then."""
    needed: float
    """Calls that had to be missing."""
    per_day: float
    """Calls a day, by its history."""


def judge_app(
    app: str, minutes: Minutes, calls: npt.NDArray[np.float64], *, start: int, until: int, settings: Settings
) -> StoppedApp | None:
    """Judge one app.

    Args:
        app: its name.
        minutes: minutes since 1970 in which it called, ascending, each once, all before ``until``.
        calls: how many calls each had.
        start: first minute of the history.
        until: everything before it has landed.
        settings: when an app counts as stopped.

    Returns:
        None where it called lately, where too little is known of it, or where it is ignored.
    """
    if app in settings.ignore or not len(minutes) or calls.sum() < settings.min_calls:
        return None
    since = int(minutes[-1]) + 1
    if until - since < settings.min_gap:
        return None
    profile = learn(minutes, calls, start, since)
    if profile.days < settings.min_days:
        return None
    missing, needed = profile.expected(since, until), needed_calls(profile, settings)
    if missing < needed:
        return None
    return StoppedApp(app, since, until, missing, needed, float(calls.sum()) / max(profile.days, 1 / DAY_MINUTES))


def needed_calls(profile: Profile, settings: Settings) -> float:
    """Return how many calls must be missing.

    Of the rules that were tried on real clients (`make bench-no_calls`), twice the longest gap finds most at its rate
    of false alarms; a power law through the longest gaps finds fewer. A gap that gave a false alarm gives no second
    one.
    """
    return max(-math.log(settings.chance), settings.longest * profile.longest_gap)
