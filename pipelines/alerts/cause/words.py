"""A cause in words: who, how much of the change, and what about it changed."""

from __future__ import annotations

from typing import NamedTuple

from pipelines.alerts.cause.split import Measure, Number, Split, Totals

UNCHANGED = 0.1
"""Relative change below which a rate is called unchanged."""
_WORTH_A_WORD = 0.1
"""Share of the change from which a factor is mentioned."""
_LITTLE = 0.005
"""Share of the normal volume below which a value was next to nothing."""


def series_words(dimension: str, value: str, share: float, normal: float) -> str:
    """``user u1: 99% of the rise, next to nothing before``."""
    before = f"{normal:.0%} of the normal volume" if normal >= _LITTLE else "next to nothing before"
    return f"{dimension} {value}: {share:.0%} of the rise, {before}"


class Changed(NamedTuple):
    """One series in the window of an incident."""

    before: Totals
    """What is usual for it in a window of this length."""
    now: Totals
    parts: Split
    """Of the change of ``measure``."""
    measure: Measure
    minutes: float
    """Length of the window."""


def split_words(who: str, share: float, changed: Changed) -> str:
    """``user u_812 is 91% of the rise; its calls went from 12 to 640 a minute, tokens per call unchanged``."""
    return f"{who} is {share:.0%} of the rise; {factors(changed)}"


def factors(changed: Changed) -> str:
    """What changed about it: calls, tokens per call, price, cache and mix."""
    before, now, parts, measure, minutes = changed
    found = []
    if before.calls != now.calls:
        found.append(_calls(float(before.calls) / minutes, float(now.calls) / minutes))
    if before.calls and before.tokens and now.calls:
        per_call = [float(each.tokens) / float(each.calls) for each in (before, now)]
        found.append(_moved("tokens per call", *per_call))
    if _matters(parts.price, parts) and before.tokens and now.tokens:
        prices = [float(each.uncached) / 1e3 / float(each.tokens) for each in (before, now)]
        found.append(_moved("USD per million tokens", *prices))
    if _matters(parts.cache, parts) and before.uncached and now.uncached:
        saved = [float(each.saved) / float(each.uncached) for each in (before, now)]
        found.append(f"cache reads saved {saved[0]:.0%} of the cost before and {saved[1]:.0%} now")
    if _matters(parts.mix, parts):
        kind = "more" if parts.mix > 0 else "fewer" if measure == "tokens" else "less"
        what = "tokens a call" if measure == "tokens" else "cost a call"
        found.append(f"its calls moved to features or models with {kind} {what}")
    return ", ".join(found) or "nothing about it moved by more than a tenth"


def number(value: float) -> str:
    """At the precision that people read."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _calls(before: float, now: float) -> str:
    if before < 0.01 * now:
        return f"{number(now)} calls a minute, next to nothing before"
    return _moved("calls", before, now, unit=" a minute", owner="its ")


def _moved(what: str, before: float, now: float, *, unit: str = "", owner: str = "") -> str:
    if abs(now - before) <= UNCHANGED * before:
        return f"{owner}{what} unchanged"
    return f"{owner}{what} went from {number(before)} to {number(now)}{unit}"


def _matters(part: Number, parts: Split) -> bool:
    return abs(float(part)) >= _WORTH_A_WORD * max(abs(float(parts.change)), 1.0)
