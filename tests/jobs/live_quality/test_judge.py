"""Labels that are worse are found with few of them, and labels that vary as before are left alone."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jobs.live_quality.judge import Settings, judge, worst
from jobs.live_quality.labels import HOUR_S, SLOT_S, Series
from jobs.wilson import wilson

DEFAULT = Settings()
RECENT = 1_795_000_000 // HOUR_S * HOUR_S
WHOLE = Series("bot", "thumbs_down", None, None)
SLOTS = 864


def counts(rng, before, after, *, an_hour=6, slots=SLOTS, days=14, series=WHOLE, fractional=False):
    """Labels of 14 days and of ``slots`` times five minutes; shares may be a function of the hour or slot."""
    found = {}
    for start, size, share, n in ((RECENT - days * 86_400, HOUR_S, before, days * 24), (RECENT, SLOT_S, after, slots)):
        labels = rng.poisson(an_hour * size / HOUR_S, n)
        for at in range(n):
            if labels[at]:
                p = share(at) if callable(share) else share
                draws = rng.beta(4 * p, 4 * (1 - p), labels[at]) if fractional else rng.random(labels[at]) < p
                found[start + at * size] = (float(draws.sum()), int(labels[at]))
    return {series: found}


def evidence(made, **fields):
    (verdict,) = judge(made, RECENT, {}, Settings(**fields))
    return verdict


@pytest.mark.parametrize(
    ("before", "after", "within"), [(0.1, 0.4, 120), (0.05, 0.2, 160), (0.3, 0.6, 140), (0.1, 0.2, 800)]
)
def test_a_change_is_found_after_so_many_labels_at_the_latest(before, after, within):
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(20):
        made = counts(rng, before, after, an_hour=12, slots=within)  # a label in each five minutes
        found += evidence(made).is_worse(DEFAULT)
    assert found >= 16


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("an_hour", [1, 12, 100])
def test_labels_that_vary_as_before_give_no_alarm_at_any_look(share, an_hour):
    rng = np.random.default_rng(2)
    alarms = 0
    for _ in range(12):
        made = counts(rng, share, share, an_hour=an_hour)
        ends = [RECENT + k * SLOT_S for k in range(48, SLOTS + 1, 48)]
        for end in ends:
            seen = {WHOLE: {at: count for at, count in made[WHOLE].items() if at < end}}
            alarms += any(verdict.is_worse(DEFAULT) for verdict in judge(seen, RECENT, {}, DEFAULT))
    assert alarms == 0


def test_hours_that_differ_from_each_other_make_the_test_slower():
    rng = np.random.default_rng(3)

    def moody(at):
        return (0.05, 0.25)[at // 6 % 2]

    steady = evidence(counts(rng, 0.15, 0.3, an_hour=30, slots=100))
    uneven = evidence(counts(rng, moody, 0.3, an_hour=30, slots=100))
    assert uneven.evidence < steady.evidence / 1.5


def test_scores_that_are_no_shares_are_tested_too():
    series = Series("bot", "score", "helpful", "1")
    rng = np.random.default_rng(4)
    same = evidence(counts(rng, 0.2, 0.2, series=series, fractional=True))
    worse = evidence(counts(rng, 0.2, 0.4, an_hour=12, series=series, slots=200, fractional=True))
    assert not same.is_worse(DEFAULT)
    assert worse.is_worse(DEFAULT)
    assert worse.share == pytest.approx(0.4, abs=0.05)


def test_few_labels_are_not_judged_and_a_new_version_is_judged_by_its_app():
    rng = np.random.default_rng(5)
    made = counts(rng, 0.1, 0.4, days=1, an_hour=3)
    assert judge(made, RECENT, {}, DEFAULT) == []
    version = Series("bot", "thumbs_down", None, None, "prompt_version", "18")
    new = {at: count for at, count in counts(rng, 0.1, 0.4, an_hour=6, series=version)[version].items() if at >= RECENT}
    both = {**counts(rng, 0.1, 0.12, an_hour=60), version: new}
    verdicts = {verdict.series: verdict for verdict in judge(both, RECENT, {}, DEFAULT)}
    assert verdicts[version].expected == pytest.approx(0.1, abs=0.02)
    ((named, others),) = worst(verdicts.values(), DEFAULT)
    assert (named.series, others) == (version, [])
    assert verdicts[version].needed == round(math.log(365 * 288 * 2), 3)


def test_an_incident_of_the_past_is_no_baseline():
    rng = np.random.default_rng(6)
    day = RECENT - 5 * 86_400

    def bad_day(hour):
        return 0.9 if 9 * 24 <= hour < 12 * 24 else 0.1

    made = counts(rng, bad_day, 0.3, an_hour=10)
    learned = judge(made, RECENT, {}, DEFAULT)[0].expected
    masked = judge(made, RECENT, {WHOLE.group: [(day, day + 3 * 86_400)]}, DEFAULT)[0].expected
    assert learned > 0.2
    assert masked == pytest.approx(0.1, abs=0.02)


def test_an_end_needs_labels_that_are_as_good_as_before():
    rng = np.random.default_rng(7)

    def recovers(slot):
        return 0.5 if slot < 400 else 0.1

    assert evidence(counts(rng, 0.1, recovers, an_hour=12)).is_over(0.1, DEFAULT)
    assert not evidence(counts(rng, 0.1, 0.5, an_hour=12)).is_over(0.1, DEFAULT)


def test_the_interval_is_wilsons():
    assert wilson(10, 100, 1.96) == pytest.approx((0.0552, 0.1744), abs=1e-3)
    assert wilson(0, 0, 1.96) == (0.0, 1.0)
    assert wilson(0, 20, 1.96)[0] == 0.0
