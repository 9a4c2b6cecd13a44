"""The verdict of the gate: right bounds, right words, and as seldom wrong as is promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from jobs.gate.verdict import Limit, Pairs, Verdict, judge, overall, pair, power, samples_needed


def differences(ups: int, downs: int, same: int) -> np.ndarray:
    return np.array([1.0] * ups + [-1.0] * downs + [0.0] * same)


def test_the_interval_is_students_t_with_two_pseudo_cases():
    found = judge(differences(12, 20, 168))
    padded = differences(13, 21, 168)
    low, high = stats.t.interval(0.95, 201, loc=padded.mean(), scale=stats.sem(padded))
    assert found.estimate == pytest.approx(-8 / 200)
    assert (found.lower, found.upper) == pytest.approx((low, high), abs=1e-12)
    assert found.verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((0, 0, 400), Verdict.PASS),
        ((10, 10, 380), Verdict.PASS),
        ((0, 12, 388), Verdict.REGRESS),  # three points, and certainly worse
        ((30, 52, 318), Verdict.REGRESS),  # 5.5 points below
        ((30, 36, 334), Verdict.UNDECIDED),
        ((60, 4, 336), Verdict.PASS),
        ((0, 0, 20), Verdict.UNDECIDED),  # twenty equal cases exclude no drop of five points
        ((0, 0, 0), Verdict.UNDECIDED),
    ],
)
def test_the_rule(counts, expected):
    assert judge(differences(*counts)).verdict is expected


def test_no_difference_at_all_passes_from_where_the_rule_of_three_allows_it():
    first = next(n for n in range(10, 200) if judge(np.zeros(n)).verdict is Verdict.PASS)
    assert 55 <= first <= 65  # 3 / 0.05 = 60


def test_samples_of_a_case_are_one_unit():
    scores = {f"c{i}": [1.0, 0.0, 1.0, 0.0] for i in range(50)}
    base = {f"c{i}": [1.0, 1.0, 0.0, 0.0] for i in range(50)} | {"only_here": [1.0], "empty": []}
    pairs = pair(scores | {"empty": [1.0]}, base)
    assert len(pairs.case_ids) == 50
    assert judge(pairs.differences).cases == 50
    assert pairs.within == pytest.approx(2 * (1 / 3) / 4)


def test_a_case_without_a_score_on_both_sides_is_left_out():
    pairs = pair({"a": [1.0], "b": [0.5]}, {"b": [0.25], "c": [1.0]})
    assert pairs.case_ids == ("b",)
    assert pairs.differences.tolist() == [0.25]
    assert np.isnan(pairs.within)


def test_undecided_says_how_many_cases_are_needed_and_with_them_it_is_decided():
    found = judge(differences(20, 24, 156))
    assert found.verdict is Verdict.UNDECIDED
    factor = (found.cases + found.cases_needed) / found.cases
    more = differences(round(20 * factor * 1.05), round(24 * factor * 1.05), round(156 * factor * 1.05))
    assert judge(more).verdict is not Verdict.UNDECIDED
    fewer = judge(differences(round(20 * factor * 0.8), round(24 * factor * 0.8), round(156 * factor * 0.8)))
    assert fewer.verdict is Verdict.UNDECIDED


def test_more_samples_help_where_samples_are_the_noise_and_not_where_cases_are():
    rng = np.random.default_rng(3)
    rates = rng.beta(2, 2, 200)
    drawn = [{f"c{i}": (rng.random(2) < rates[i]).astype(float).tolist() for i in range(200)} for _ in range(2)]
    pairs = pair(*drawn)
    found = judge(pairs.differences)
    assert found.verdict is Verdict.UNDECIDED
    assert 3 <= samples_needed(pairs, found, 2) <= 20
    fixed = Pairs(pairs.case_ids, pairs.candidate, pairs.baseline, 1e-6)
    assert samples_needed(fixed, found, 2) == -1
    unknown = Pairs(pairs.case_ids, pairs.candidate, pairs.baseline, float("nan"))
    assert samples_needed(unknown, found, 2) == -1


def test_a_relative_limit_is_of_the_baseline():
    assert Limit(0.05).of(0.4) == 0.05
    assert Limit(0.05, relative=True).of(0.4) == pytest.approx(0.02)


def test_the_bound_of_a_regress_is_corrected_for_the_number_of_checks_that_of_a_pass_is_not():
    one, ten = (judge(differences(2, 12, 386), checks=m) for m in (1, 10))
    assert one.lower == ten.lower
    assert one.upper < 0 < ten.upper
    assert (one.verdict, ten.verdict) == (Verdict.REGRESS, Verdict.PASS)


def test_one_regress_blocks_and_undecided_is_never_a_pass():
    assert overall([Verdict.PASS, Verdict.UNDECIDED, Verdict.REGRESS]) is Verdict.REGRESS
    assert overall([Verdict.PASS, Verdict.UNDECIDED]) is Verdict.UNDECIDED
    assert overall([Verdict.PASS]) is Verdict.PASS
    assert overall([]) is Verdict.UNDECIDED


def test_where_noise_is_wider_than_the_limit_the_trade_off_is_known():
    wide, narrow = judge(differences(15, 15, 20)), judge(differences(20, 20, 360))
    assert wide.rules_exclude
    assert not narrow.rules_exclude
    assert narrow.false_block_risk == pytest.approx(0.025, abs=0.001)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=80))
def test_bounds_hold_the_shrunk_mean_and_mirror(values):
    found, mirrored = judge(np.array(values)), judge(-np.array(values))
    assert -1 <= found.lower <= found.upper <= 1
    assert (found.lower, found.upper) == pytest.approx((-mirrored.upper, -mirrored.lower))
    assert found.verdict is Verdict.PASS or found.estimate <= 1


def test_equal_candidates_are_seldom_blocked_and_a_drop_of_eight_points_mostly_is():
    rng = np.random.default_rng(11)
    blocked = undecided = caught = 0
    for _ in range(300):
        rates = rng.beta(0.6, 0.9, 400)
        base, same, worse = (rng.binomial(5, p) / 5 for p in (rates, rates, rates * (1 - 0.08 / rates.mean())))
        found = judge(same - base).verdict
        blocked += found is Verdict.REGRESS
        undecided += found is Verdict.UNDECIDED
        caught += judge(worse - base).verdict is Verdict.REGRESS
    assert blocked / 300 <= 0.05
    assert undecided / 300 <= 0.25
    assert caught / 300 >= 0.8


def test_power_agrees_with_what_is_drawn():
    assert power(0.08, spread=0.5, cases=400) == pytest.approx(0.89, abs=0.01)
    assert power(0.0, spread=0.2, cases=400) == pytest.approx(0.025, abs=0.002)
