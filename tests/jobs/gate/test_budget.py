"""Cost and latency: relative changes with intervals, unknown where nothing is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from jobs.gate.budget import mean_change, quantile_change
from jobs.gate.verdict import Verdict


def costs(factor: float, cases: int = 100, noise: float = 0.0, seed: int = 1) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    sizes = np.random.default_rng(99).lognormal(0, 1, cases)  # the same cases for everyone
    return {f"c{i}": [float(sizes[i] * factor * rng.lognormal(0, noise)) for _ in range(3)] for i in range(cases)}


def test_a_change_of_every_case_is_exact():
    found = mean_change(costs(1.3), costs(1.0), 0.2)
    assert found.estimate == pytest.approx(0.3)
    assert (found.lower, found.upper) == pytest.approx((0.3, 0.3))
    assert found.verdict is Verdict.REGRESS


def test_a_small_certain_increase_is_within_the_limit():
    found = mean_change(costs(1.04, noise=0.05), costs(1.0, noise=0.05, seed=2), 0.1)
    assert found.lower > 0
    assert found.verdict is Verdict.PASS


def test_noise_is_undecided_and_no_regress():
    found = mean_change(costs(1.0, cases=6, noise=1.0, seed=6), costs(1.0, cases=6, noise=1.0, seed=5), 0.1)
    assert found.verdict is Verdict.UNDECIDED


def test_p95_of_equal_sides_mostly_passes_and_a_slower_one_regresses():
    rng = np.random.default_rng(7)
    equal = quantile_change(costs(1.0, 400, 0.1), costs(1.0, 400, 0.1, seed=2), 0.2, rng=rng)
    slower = quantile_change(costs(1.6, 400, 0.1), costs(1.0, 400, 0.1, seed=2), 0.2, rng=rng)
    assert equal.verdict is Verdict.PASS
    assert slower.verdict is Verdict.REGRESS
    assert slower.lower < 0.6 < slower.upper


def test_the_same_seed_gives_the_same_interval():
    first, second = (
        quantile_change(costs(1.1, 30, 0.3), costs(1.0, 30, 0.3, seed=2), 0.2, rng=np.random.default_rng(4))
        for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("sides", [({}, {}), ({"a": [1.0]}, {"a": [1.0]}), ({"a": [0.0], "b": [0.0]},) * 2])
def test_where_nothing_is_known_nothing_is_said(sides):
    for found in (mean_change(*sides, 0.1), quantile_change(*sides, 0.1, rng=np.random.default_rng(1))):
        assert found.verdict is Verdict.UNDECIDED
        assert math.isnan(found.estimate)
