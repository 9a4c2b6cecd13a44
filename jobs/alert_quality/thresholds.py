"""A threshold that would have kept noise away and let the useful alerts through, by the values in the alerts. Pure.

It is a proposal: the values of an alert are those at the time it was emitted, so only a back-test shows what a
threshold does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jobs.alert_quality.incidents import Incident
from schemas.alerts import Alert

MIN_NOISE = 3
"""Verdicts ``noise`` on a rule below which nothing is proposed: one alert is no reason to change a rule."""
_ABOVE = 1.1
"""Factor above the largest noise where no useful alert bounds the threshold."""
_DIGITS = 3


def _multiple(alert: Alert) -> float | None:
    return alert.observed / alert.expected if alert.expected > 0 else None


def _rise(alert: Alert) -> float | None:
    return alert.observed - alert.expected


def _hourly(alert: Alert) -> float | None:
    return alert.impact.usd_per_hour


def _observed(alert: Alert) -> float | None:
    return alert.observed


@dataclass(frozen=True)
class Threshold:
    """A field of a detector that keeps alerts away the larger it is."""

    detector: str
    field: str
    rules: tuple[str, ...]
    """Rules that it holds for."""
    value: Callable[[Alert], float | None]
    """What of an alert the field is compared with; None: it is unknown."""

    def of(self, incident: Incident) -> float | None:
        """Return the largest value while the incident was open; None where a state has none."""
        values = [self.value(alert) for alert in incident.states if alert.state != "resolved"]
        found = [each for each in values if each is not None and math.isfinite(each)]
        return max(found) if found and len(found) == len(values) else None


_SUMS = ("spike_cost", "spike_tokens", "spike_calls")
_MEANS = ("spike_cost_per_call", "spike_tokens_per_call")
_SHARES = (
    *("surge_guardrail", "surge_errors", "surge_blocked", "surge_refused", "surge_truncated", "surge_fallbacks"),
    *("surge_empty_retrievals", "surge_usage_missing", "surge_unpriced", "surge_cost_differs"),
)
THRESHOLDS = (
    Threshold("spike", "ratio", _SUMS, _multiple),
    Threshold("spike", "floor_usd_per_hour", ("spike_cost",), _hourly),
    Threshold("spike", "ratio_per_call", _MEANS, _multiple),
    Threshold("surge", "lift", _SHARES, _multiple),
    Threshold("surge", "rise", _SHARES, _rise),
    Threshold("ceiling", "limit_usd", ("single_call_cost",), _observed),
    Threshold("cold_start", "limit_usd_per_hour", ("cold_start_cost",), _hourly),
    Threshold("cold_start", "share", ("cold_start_errors",), _observed),
)
"""Those of the detectors of the stream; a rule without one gets no proposal."""


@dataclass(frozen=True)
class Proposal:
    """A value of a field of a detector, in place of the one that holds."""

    rule: str
    detector: str
    field: str
    now: float
    then: float
    noise: int
    """Alerts of the rule that were judged noise."""
    below: int
    """Those of them that stayed below ``then``."""

    @property
    def setting(self) -> str:
        """As ``tailrace backtest --set`` takes it."""
        return f"{self.detector}.{self.field}={self.then:g}"


def propose(rule: str, incidents: Sequence[Incident], current: Mapping[str, Mapping[str, float]]) -> Proposal | None:
    """Return the threshold of ``rule`` that most of its noise stays below, and no useful alert; None: there is none.

    Args:
        rule: of alerts.
        incidents: of all rules, with their verdicts.
        current: detector -> field -> value that holds.
    """
    noise = [i for i in incidents if i.first.rule == rule and i.verdict == "noise"]
    if len(noise) < MIN_NOISE:
        return None
    found = [p for t in THRESHOLDS if rule in t.rules and (p := _proposed(t, rule, noise, incidents, current))]
    return max(found, key=lambda p: (p.below, -p.then / p.now), default=None)


def _proposed(
    threshold: Threshold,
    rule: str,
    noise: Sequence[Incident],
    incidents: Sequence[Incident],
    current: Mapping[str, Mapping[str, float]],
) -> Proposal | None:
    now = current.get(threshold.detector, {}).get(threshold.field)
    useful = [threshold.of(i) for i in incidents if i.verdict == "useful" and i.first.rule in threshold.rules]
    if not now or any(value is None for value in useful):
        return None
    least = min((value for value in useful if value is not None), default=math.inf)
    below = [value for each in noise if (value := threshold.of(each)) is not None and value < least]
    if not below:
        return None
    then = _between(max(below), least)
    if then <= now:
        return None
    return Proposal(rule, threshold.detector, threshold.field, now, then, len(noise), len(below))


def _between(low: float, high: float) -> float:
    """Return a short number above ``low``, and no higher than ``high``."""
    middle = _ABOVE * low if math.isinf(high) else math.sqrt(max(low, 0.0) * high)
    short = float(f"{middle:.{_DIGITS}g}")
    return short if low < short <= high else middle
