"""The sequential test: right however often it is looked at."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jobs.gate.sequential import compare, half_width
from jobs.gate.verdict import Verdict

LOOKS = range(100, 2_001, 100)


def test_equal_variants_that_are_looked_at_twenty_times_are_seldom_called_worse():
    rng = np.random.default_rng(8)
    called = fixed = 0
    for _ in range(200):
        a, b = rng.binomial(1, 0.6, (2, LOOKS[-1])).astype(float)
        called += any(compare("x", a[:n], b[:n], 0.05).verdict is Verdict.REGRESS for n in LOOKS)
        error = [math.sqrt(np.var(a[:n]) / n + np.var(b[:n]) / n) for n in LOOKS]
        fixed += any(b[:n].mean() - a[:n].mean() + 1.96 * e < 0 for n, e in zip(LOOKS, error, strict=True))
    assert called / 200 <= 0.05
    assert fixed / 200 > 0.06  # an interval for one look


def test_a_worse_variant_is_found_and_an_equal_one_passes_in_the_end():
    rng = np.random.default_rng(9)
    a, b = rng.binomial(1, 0.6, 6_000).astype(float), rng.binomial(1, 0.5, 6_000).astype(float)
    assert compare("x", a, b, 0.05).verdict is Verdict.REGRESS
    assert compare("x", a, rng.binomial(1, 0.6, 6_000).astype(float), 0.05).verdict is Verdict.PASS
    assert compare("x", a[:60], b[:60], 0.05).verdict is Verdict.UNDECIDED


def test_cost_is_relative_and_more_is_worse():
    rng = np.random.default_rng(10)
    a = rng.lognormal(0, 0.3, 2_000)
    found = compare("cost_usd", a, 1.5 * rng.lognormal(0, 0.3, 2_000), 0.2, relative=True, higher_is_better=False)
    assert found.verdict is Verdict.REGRESS
    assert found.lower < 0.5 < found.upper
    cheaper = compare("cost_usd", a, 0.7 * a, 0.2, relative=True, higher_is_better=False)
    assert cheaper.verdict is Verdict.PASS


@pytest.mark.parametrize("sides", [([], []), ([1.0] * 29, [1.0] * 500), ([0.0] * 40, [1.0] * 40)])
def test_few_users_and_a_baseline_of_nothing_say_nothing(sides):
    found = compare("cost_usd", *sides, 0.2, relative=True, higher_is_better=False)
    assert found.verdict is Verdict.UNDECIDED
    assert math.isnan(found.estimate)


def test_the_interval_is_wider_than_that_of_one_look():
    assert half_width(0.01**2, 0.05) > 1.96 * 0.01
    assert half_width(0.0, 0.05) > 0
