"""Weighted means: right where the truth is known, and their intervals cover it as often as they say."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.evals.compare import Difference, difference, significant
from jobs.evals.weights import MIN_EFFECTIVE, Estimate, Sample, estimate, estimates

CALLS = np.array([100_000, 20_000, 5_000, 800, 200, 60])
TRUTH = np.array([0.95, 0.8, 0.6, 0.3, 0.9, 0.1])
TAKEN = np.array([400, 200, 100, 60, 40, 30])


def sample_of(values: np.ndarray) -> Sample:
    """One value a sampled call, in the order of the strata."""
    return Sample(values, np.repeat(CALLS / TAKEN, TAKEN), np.repeat(np.arange(6), TAKEN))


def known_difference(new: Estimate, old: Estimate) -> Difference:
    found = difference(new, old)
    assert found is not None
    return found


def simple(values: np.ndarray, weight: float = 50.0) -> Sample:
    n = len(values)
    return Sample(values, np.full(n, weight), np.zeros(n, np.int64))


def test_the_mean_of_one_stratum_is_the_plain_mean_with_wilsons_interval() -> None:
    values = np.array([1.0] * 80 + [0.0] * 20)
    found = estimate(Sample(values, np.ones(100), np.zeros(100, np.int64)))
    assert found.mean == pytest.approx(0.8)
    assert (found.n, found.effective_n, found.coverage) == (100, pytest.approx(100), 1.0)
    # Wilson with n = 99 (the variance divides by n - 1) and t of 99 degrees
    assert (found.low, found.high) == (pytest.approx(0.710, abs=0.002), pytest.approx(0.867, abs=0.002))


def test_a_call_counts_by_the_inverse_of_its_probability() -> None:
    values = np.array([1.0] * 50 + [0.0] * 50)
    weights = np.array([9.0] * 50 + [1.0] * 50)
    found = estimate(Sample(values, weights, np.repeat([0, 1], 50)))
    assert found.mean == pytest.approx(0.9)
    assert found.effective_n == pytest.approx(500**2 / (50 * 81 + 50))
    assert found.calls == 500


def test_what_cannot_be_judged_is_in_no_mean_and_lowers_the_coverage() -> None:
    values = np.array([1.0] * 60 + [np.nan] * 40)
    found = estimate(simple(values))
    assert (found.mean, found.n, found.coverage) == (1.0, 60, pytest.approx(0.6))


def test_under_30_effective_cases_there_is_no_mean() -> None:
    assert MIN_EFFECTIVE == 30
    few = estimate(simple(np.ones(29)))
    assert (few.too_few, few.mean, few.low, few.high) == (True, None, None, None)
    assert estimate(simple(np.ones(31))).mean == 1.0
    # 40 calls of which one stands for nearly all are few
    weights = np.array([1000.0] + [1.0] * 39)
    uneven = estimate(Sample(np.ones(40), weights, np.zeros(40, np.int64)))
    assert uneven.effective_n < 2
    assert uneven.too_few
    empty = Sample(np.zeros(0), np.zeros(0), np.zeros(0, np.int64))
    assert estimate(empty).n == 0


def test_where_all_calls_were_taken_or_all_agree_the_mean_still_has_an_interval() -> None:
    whole = estimate(Sample(np.array([1.0, 0.0] * 50), np.ones(100), np.zeros(100, np.int64)))
    assert (whole.low, whole.high) == (pytest.approx(0.402, abs=0.002), pytest.approx(0.598, abs=0.002))
    alike = estimate(simple(np.ones(100)))
    assert alike.high == 1.0
    assert alike.low == pytest.approx(0.963, abs=0.001)


def test_weeks_that_were_scored_whole_and_did_not_change_are_not_called_different() -> None:
    rng = np.random.default_rng(11)

    def week() -> list:
        values = (rng.random(2000) < 0.95).astype(float)
        return estimates(Sample(values, np.ones(2000), np.zeros(2000, np.int64)), np.arange(2000) % 20, 20)

    flagged = [
        significant([known_difference(new, old).p for new, old in zip(week(), week(), strict=True)]).any()
        for _ in range(100)
    ]
    assert sum(flagged) <= 5


def test_domains_of_one_sample_are_estimated_as_each_by_itself() -> None:
    rng = np.random.default_rng(5)
    sample = sample_of((rng.random(TAKEN.sum()) < 0.7).astype(float))
    domains = rng.integers(-1, 3, len(sample))
    together = estimates(sample, domains, 3)
    for number, one in enumerate(together):
        (alone,) = estimates(sample, np.where(domains == number, 0, -1), 1)
        assert alone == one


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("domain", [True, False])
def test_the_interval_covers_the_truth_in_93_percent_of_1000_draws(binary: bool, domain: bool) -> None:
    rng = np.random.default_rng(20_261_118)
    strata = []
    for calls, truth in zip(CALLS, TRUTH, strict=True):
        scores = (rng.random(calls) < truth).astype(float) if binary else np.clip(rng.normal(truth, 0.15, calls), 0, 1)
        strata.append((scores, rng.random(calls) < (0.3 if domain else 2)))
    truth = np.concatenate([scores[inside] for scores, inside in strata]).mean()
    covered = 0
    for _ in range(1000):
        drawn = [rng.choice(calls, take, replace=False) for calls, take in zip(CALLS, TAKEN, strict=True)]
        values = np.concatenate([scores[at] for (scores, _), at in zip(strata, drawn, strict=True)])
        inside = np.concatenate([domains[at] for (_, domains), at in zip(strata, drawn, strict=True)])
        (found,) = estimates(sample_of(values), np.where(inside, 0, -1), 1)
        covered += found.low <= truth <= found.high
    assert covered >= 930
    plain = np.mean([scores.mean() for scores, _ in strata])  # an average without weights is far off
    assert abs(plain - truth) > 0.2


def test_where_nothing_changed_at_most_5_percent_of_the_reports_over_200_slices_flag_anything() -> None:
    rng = np.random.default_rng(7)
    slices, reports, flagged = 200, 0, 0
    for mean, calls, graded in ((0.9, 40, False), (0.5, 40, False), (0.8, 40, True)):
        codes, size = np.repeat(np.arange(slices), calls), calls * slices

        def week(mean: float = mean, size: int = size, graded: bool = graded, codes: np.ndarray = codes) -> list:
            values = rng.beta(4 * mean, 4 * (1 - mean), size) if graded else (rng.random(size) < mean).astype(float)
            return estimates(Sample(values, np.full(size, 50.0), codes), codes, slices)

        for _ in range(80):
            changes = [known_difference(new, old) for new, old in zip(week(), week(), strict=True)]
            flagged += bool(significant([change.p for change in changes]).any())
            reports += 1
    assert flagged <= 0.05 * reports


def test_a_real_drop_is_significant_among_200_slices() -> None:
    rng = np.random.default_rng(3)
    new = [estimate(simple((rng.random(400) < (0.75 if i == 17 else 0.95)).astype(float))) for i in range(200)]
    old = [estimate(simple((rng.random(400) < 0.95).astype(float))) for _ in range(200)]
    changes = [known_difference(a, b) for a, b in zip(new, old, strict=True)]
    assert list(np.flatnonzero(significant([c.p for c in changes]))) == [17]
    assert changes[17].value == pytest.approx(-0.2, abs=0.06)
    assert changes[17].low < changes[17].value < changes[17].high < 0


def test_a_difference_needs_both_sides() -> None:
    known, few = estimate(simple(np.ones(100))), estimate(simple(np.ones(10)))
    assert difference(known, few) is None
    assert known_difference(known, known).p == 1.0
    assert not significant([]).any()
    assert list(significant([0.001, 0.04, 0.9, 0.02])) == [True, False, False, True]


STRATA = np.array([6_000, 1_500, 400])
DRAWN = np.array([200, 100, 60])


def drawn(rng: np.random.Generator, scores: list[np.ndarray], replicates: int = 0) -> Sample:
    picked = [rng.permutation(calls)[:take] for calls, take in zip(STRATA, DRAWN, strict=True)]
    values = np.concatenate([mine[at] for mine, at in zip(scores, picked, strict=True)])
    columns = (np.repeat(STRATA / DRAWN, DRAWN), np.repeat(np.arange(3), DRAWN))
    return Sample(values, *columns, replicates)


def test_the_bootstraps_interval_covers_the_truth_in_93_percent_of_1000_draws() -> None:
    rng = np.random.default_rng(20_261_130)
    scores = [(rng.random(calls) < truth).astype(float) for calls, truth in zip(STRATA, (0.9, 0.6, 0.3), strict=True)]
    truth, covered, differs = np.concatenate(scores).mean(), 0, 0
    for _ in range(1000):
        sample = drawn(rng, scores, 200)
        found, plain = (
            estimate(sample),
            estimate(Sample(sample.values, sample.weights, sample.strata)),
        )
        covered += found.low <= truth <= found.high
        differs += (found.low, found.high) != (plain.low, plain.high)
        assert found.mean == plain.mean
    assert covered >= 930
    assert differs == 1000


def test_a_bootstrap_is_that_of_the_sample_and_few_calls_keep_wilsons_interval() -> None:
    rng = np.random.default_rng(1)
    sample = drawn(rng, [(rng.random(calls) < 0.7).astype(float) for calls in STRATA], 500)
    domains = np.where(np.arange(len(sample)) % 12 == 0, 1, 0)  # 30 calls
    first, again = (estimates(sample, domains, 2) for _ in range(2))
    plain = estimates(Sample(sample.values, sample.weights, sample.strata), domains, 2)
    assert first == again
    assert first[0] != plain[0]
    assert first[1] == plain[1]
    near = np.where(np.arange(len(sample)) < 15, 0.0, 1.0)  # 15 failures
    rest = (sample.weights, sample.strata)
    assert estimate(Sample(near, *rest, 500)) == estimate(Sample(near, *rest))


def test_where_a_large_stratum_happens_to_hold_no_failure_the_interval_still_covers() -> None:
    rng = np.random.default_rng(20_261_118)
    truths = (0.985, 0.97, 0.95, 0.9, 0.9, 0.8)
    strata = [
        ((rng.random(calls) < truth).astype(float), rng.random(calls) < 0.12)
        for calls, truth in zip(CALLS, truths, strict=True)
    ]
    truth = np.concatenate([scores[inside] for scores, inside in strata]).mean()
    covered = known = 0
    for _ in range(1000):
        picked = [rng.integers(calls, size=take) for calls, take in zip(CALLS, TAKEN, strict=True)]
        values = np.concatenate([scores[at] for (scores, _), at in zip(strata, picked, strict=True)])
        inside = np.concatenate([domain[at] for (_, domain), at in zip(strata, picked, strict=True)])
        (found,) = estimates(sample_of(values), np.where(inside, 0, -1), 1)
        known += not found.too_few
        covered += not found.too_few and found.low <= truth <= found.high
    assert known > 900
    assert covered >= 0.93 * known
