"""Recovery is proven by calls: no incident is over while it lasts, and each is over soon after, at every rate."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.alerts.recovery import Bucket, Recovery, RecoveryConfig, Terms, absorb, resume, step

CONFIG = RecoveryConfig()
SLOT = 10_000_000
FIRST = 30
"""Buckets before the alarm, where they hold enough calls for one."""
SHARES = {"cut off answers": (0.01, 0.06), "guardrail": (0.012, 0.4), "outage": (0.005, 1.0)}
FACTORS = {"three and a half times": 3.5, "tenfold": 10.0, "loop": 200.0}
RATES = (0.01, 0.03, 0.1, 0.4, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)


def arrivals(rng: np.random.Generator, rate: float, slots: int, shape: float | None) -> np.ndarray:
    """Calls per bucket: Poisson, or with gaps that are gamma distributed with ``shape`` (below 1: bursts)."""
    if shape is None or rate > 50:
        return rng.poisson(rate * 10, slots)
    gaps = rng.gamma(shape, 1 / (rate * shape), int(rate * slots * 15 + 500)).cumsum()
    return np.bincount((gaps[gaps < slots * 10] // 10).astype(int), minlength=slots)[:slots]


def shares(kind: str, rate: float, on: int, off: int, shape: float | None, seed: int) -> tuple[Terms, list[Bucket]]:
    """A share that is raised for ``on`` buckets and normal for ``off``, with the terms that ``surge`` gives."""
    normal, raised = SHARES[kind]
    rng = np.random.default_rng([seed, 1])
    calls = arrivals(rng, rate, on + off, shape)
    hits = rng.binomial(calls, np.where(np.arange(on + off) < on, raised, normal))
    limit = max(1.5 * normal + 0.005, 2 * normal, normal + 0.01)
    buckets = [Bucket(float(h), float(n), float(n)) for h, n in zip(hits, calls, strict=True)]
    return Terms(normal, limit, share=True), buckets


def costs(kind: str, rate: float, on: int, off: int, shape: float | None, seed: int) -> tuple[Terms, list[Bucket]]:
    """Costs that are log-normal per call, with ``rate`` calls/s in normal times, and the terms that ``spike`` gives."""
    rng = np.random.default_rng([seed, 2])
    calls = np.concatenate([arrivals(rng, rate * FACTORS[kind], on, shape), arrivals(rng, rate, off, shape)])
    mean = float(np.exp(0.5))
    usd = [rng.lognormal(0, 1, n).sum() if n < 2000 else n * mean for n in calls]
    normal = 10 * rate * mean
    buckets = [Bucket(float(v), 1.0, float(n)) for v, n in zip(usd, calls, strict=True)]
    return Terms(normal, 3 * normal, mean, 4.0), buckets


def played(
    terms: Terms, buckets: Sequence[Bucket], state: Recovery | None = None, first: int = FIRST
) -> Iterator[tuple[int, int]]:
    """(bucket in which recovery was proven, bucket with which the incident ended), for ever, if it were asked again."""
    state = state or Recovery()
    for i, bucket in enumerate(buckets):
        if i < first:
            absorb(state, terms, bucket, (i + 2) * SLOT)
        elif end := step(state, terms, bucket, (i + 1) * SLOT, (i + 2) * SLOT, CONFIG):
            yield i, end // SLOT - 1


def proven(terms: Terms, buckets: Sequence[Bucket], first: int = FIRST) -> tuple[int, int]:
    return next(played(terms, buckets, first=first), (len(buckets), -1))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(SHARES)),
    rate=st.sampled_from(RATES),
    shape=st.sampled_from((None, 0.3)),
    hours=st.sampled_from((1, 3, 6)),
    seed=st.integers(0, 10_000),
)
def test_a_share_is_over_once_and_not_before_its_end_at_any_rate(
    kind: str, rate: float, shape: float | None, hours: int, seed: int
) -> None:
    normal, raised = SHARES[kind]
    on = max(hours * 360, int(60 / raised / rate / 10))  # as many calls as an alarm needs
    off = int(1500 / (raised - normal) / rate / 10) + 60
    at, end = proven(*shares(kind, rate, on, off, shape, seed))
    assert on <= at < on + off, "not while it lasts, and soon after"
    assert abs(end - on) <= max(60, 300 / raised / rate / 10)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(sorted(FACTORS)),
    rate=st.sampled_from(RATES),
    shape=st.sampled_from((None, 0.3)),
    hours=st.sampled_from((1, 3, 6)),
    seed=st.integers(0, 10_000),
)
def test_a_cost_is_over_once_and_not_before_its_end_at_any_rate(
    kind: str, rate: float, shape: float | None, hours: int, seed: int
) -> None:
    first = max(FIRST, int(40 / FACTORS[kind] / rate / 10))
    on = hours * 360 + first
    off = int(250 / rate / 10) + 60
    at, end = proven(*costs(kind, rate, on, off, shape, seed), first=first)
    assert on <= at < on + off
    assert abs(end - on) <= max(6, 60 / rate / 10)


@pytest.mark.parametrize("kind", sorted(SHARES))
@pytest.mark.parametrize("seed", range(4))
def test_at_ten_calls_a_second_it_is_over_within_two_minutes(kind: str, seed: int) -> None:
    at, _ = proven(*shares(kind, 10.0, 360, 360, None, seed))
    assert 360 + 2 <= at <= 360 + 12, "30 s at least"


def test_what_calls_seldom_gets_more_time_than_what_calls_often() -> None:
    medians = [
        np.median([proven(*shares("cut off answers", rate, 4000, 12_000, None, seed))[0] - 4000 for seed in range(5)])
        for rate in (0.1, 0.4, 2.0, 10.0)
    ]
    assert medians == sorted(medians, reverse=True)
    assert medians[0] > 10 * medians[2]


def test_an_incident_that_pauses_for_minutes_is_not_over_while_it_pauses() -> None:
    """Two minutes of twenty times the normal level, two of nothing: what it has shown before, a pause does not end."""
    pattern = np.tile([200.0] * 12 + [0.0] * 12, 30)
    assert list(played(Terms(10.0, 30.0, 1.0, 4.0), [Bucket(v, 1.0, v) for v in pattern])) == []


def test_once_reopened_its_pauses_are_part_of_it() -> None:
    terms, state = Terms(10.0, 30.0, 1.0, 4.0), Recovery()
    values = [200.0] * 60 + [0.0] * 12 + ([200.0] * 12 + [0.0] * 12) * 20
    buckets = [Bucket(v, 1.0, v) for v in values]
    at, _ = next(played(terms, buckets, state))
    assert 60 <= at < 72, "it cannot be known the first time"
    resume(state)
    later = enumerate(buckets[at + 1 :], start=at + 1)
    assert not [i for i, b in later if step(state, terms, b, (i + 1) * SLOT, (i + 2) * SLOT, CONFIG)]


@pytest.mark.parametrize("part", [0.3, 0.5])
def test_a_part_of_an_incident_is_an_incident_too(part: float) -> None:
    rng = np.random.default_rng(3)
    terms = Terms(10.0, 30.0)
    high = [Bucket(float(n), 1.0, float(n)) for n in rng.poisson(300, 90)]
    lower = [Bucket(float(n), 1.0, float(n)) for n in rng.poisson(300 * part, 720)]
    assert list(played(terms, [*high, *lower])) == []


def test_an_incident_that_goes_on_below_its_alarm_limit_is_not_over() -> None:
    """A burst raised the alarm; what follows is 3.6 times the normal level, where six times raise one."""
    rng = np.random.default_rng(5)
    buckets = [Bucket(float(n), 1.0, float(n)) for n in rng.poisson(36, 1500)]
    assert list(played(Terms(10.0, 60.0), buckets)) == []


@pytest.mark.parametrize(("rate", "minutes"), [(10.0, 5), (0.1, 11), (0.001, 120)])
def test_a_series_that_stops_is_over_after_a_bounded_time(rate: float, minutes: int) -> None:
    """A share of no calls is not known. 64 calls are missing, or two hours have passed."""
    rng = np.random.default_rng(4)
    calls = [Bucket(float(n), float(n), float(n)) for n in rng.poisson(rate * 10, 2000)]
    at, end = proven(Terms(0.01, 0.02, share=True), [*calls, *[Bucket(0.0, 0.0, 0.0)] * 1000])
    last = max(i for i, b in enumerate(calls) if b.calls)
    assert (at - last) / 6 == pytest.approx(minutes, rel=0.2)
    assert end == last + 1


def test_the_end_is_that_of_the_last_bucket_that_breached() -> None:
    terms = Terms(10.0, 30.0)
    normal, breached = Bucket(10.0, 1.0, 10.0), Bucket(60.0, 1.0, 60.0)
    buckets = [*[Bucket(100.0, 1.0, 100.0)] * 60, normal, breached, *[normal] * 30]
    _, end = proven(terms, buckets)
    assert end == 62


def test_an_incident_of_a_version_that_kept_no_evidence_is_tested_against_the_alarm_limit() -> None:
    state, terms = Recovery(), Terms(0.01, 0.02, share=True)
    over = [step(state, terms, Bucket(1.0, 100.0, 100.0), i * SLOT, (i + 1) * SLOT, CONFIG) for i in range(1, 400)]
    assert any(over)
    state = Recovery()
    over = [step(state, terms, Bucket(6.0, 100.0, 100.0), i * SLOT, (i + 1) * SLOT, CONFIG) for i in range(1, 400)]
    assert not any(over)
