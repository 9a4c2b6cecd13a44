"""The smallest series that explains the change names it; a value that always had its share explains nothing."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.alerts.cause import explain
from pipelines.alerts.cause.ranking import TIE, is_clearer
from schemas.alerts import Cause
from schemas.rollups import series_key, series_pairs

NAMES = [
    '{"app":"bot"}',
    '{"app":"bot","feature":"chat"}',
    '{"app":"bot","tenant":"acme"}',
    '{"app":"bot","user":"u1"}',
    '{"app":"bot","user":"other"}',
]


def test_a_user_is_named_before_the_tenant_and_the_feature_that_hold_him() -> None:
    told = explain(NAMES, np.array([10, 7, 10, 9.9, 0]), np.array([1, 0.7, 0.15, 0.001, 0.2]), app=0, trigger=3)
    assert told.place == 3
    assert [c.value for c in told.causes[:2]] == ["u1", "acme"]
    assert told.causes[0].text == "user u1: 99% of the rise, next to nothing before"


def test_a_rise_of_everything_is_the_apps_own() -> None:
    told = explain(NAMES, np.array([10, 7.5, 2, 0.1, 2]), np.array([1, 0.75, 0.2, 0.01, 0.2]), app=0, trigger=0)
    assert told.place == 0


def test_the_pool_of_what_is_not_tracked_is_nobody() -> None:
    told = explain(NAMES, np.array([10, 0, 0, 0, 10]), np.array([1, 0.75, 0.2, 0.01, 0.1]), app=0, trigger=0)
    assert told.place == 0
    assert told.causes == ()


def test_a_fall_elsewhere_does_not_hide_the_one_who_rose() -> None:
    told = explain(NAMES, np.array([4, -3, 1, 9, 0]), np.array([1, 0.75, 0.2, 0.01, 0.1]), app=0, trigger=3)
    assert told.place == 3


def test_a_value_with_too_few_calls_is_not_named() -> None:
    excess, normal = np.array([10, 1, 10, 9.9, 0]), np.array([1, 0.7, 0.15, 0.001, 0.2])
    enough = np.array([True, True, True, False, True])
    found = explain(NAMES, excess, normal, app=0, trigger=0, enough=enough)
    assert found.place == 2
    assert "u1" not in [c.value for c in found.causes]


SEVERAL = ['{"app":"bot"}', *(f'{{"app":"bot","user":"u{i}"}}' for i in range(5)), '{"app":"bot","feature":"chat"}']


@pytest.mark.parametrize(
    ("shares", "named"),
    [
        ([0.85, 0.05, 0.05, 0.05, 0], ["u0"]),
        ([0.45, 0.4, 0.1, 0.05, 0], ["u0", "u1"]),
        ([0.4, 0.3, 0.2, 0.1, 0], ["u0", "u1", "u2"]),
        ([0.3, 0.25, 0.2, 0.15, 0.1], []),
    ],
)
def test_the_smallest_set_of_at_most_three_that_explains_four_fifths_is_named(
    shares: list[float], named: list[str]
) -> None:
    excess, normal = np.array([1.0, *shares, 0.6]), np.array([1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.6])
    found = explain(SEVERAL, excess, normal, app=0, trigger=0)
    assert [c.value for c in found.causes if c.named] == named


def _cube(rng: random.Random, sizes: dict[str, int]) -> dict[tuple[str, ...], tuple[float, float]]:
    """(value of each dimension) -> usual and present calls of a cube with noise of a few per cent."""
    cells = product(*([f"{name}{i}" for i in range(size)] for name, size in sizes.items()))
    usual = {cell: rng.uniform(1, 10) for cell in cells}
    return {cell: (calls, calls * rng.uniform(0.98, 1.02)) for cell, calls in usual.items()}


@settings(max_examples=200)
@given(st.randoms(use_true_random=False), st.integers(2, 6), st.integers(2, 6), st.floats(1.0, 20.0))
def test_a_cause_planted_in_two_dimensions_is_the_one_that_is_named(
    rng: random.Random, features: int, models: int, factor: float
) -> None:
    cube = _cube(rng, {"feature": features, "model": models, "tenant": 4})
    feature, model = f"feature{rng.randrange(features)}", f"model{rng.randrange(models)}"
    whole = sum(usual for usual, _ in cube.values())
    for cell, (usual, now) in cube.items():
        if cell[:2] == (feature, model):
            cube[cell] = usual, now + factor * whole * usual / 10
    series: dict[str, list[float]] = {}
    for cell, (usual, now) in cube.items():
        values = dict(zip(("feature", "model", "tenant"), cell, strict=True))
        for dimensions in ((), ("feature",), ("model",), ("tenant",), ("feature", "model")):
            name = series_key({"app": "bot", **{d: values[d] for d in dimensions}})[1]
            sums = series.setdefault(name, [0.0, 0.0])
            sums[0] += usual
            sums[1] += now - usual
    numbers = np.array(list(series.values()))
    found = explain(list(series), numbers[:, 1], numbers[:, 0] / whole, app=0, trigger=0)
    (named,) = [c for c in found.causes if c.named]
    pair, single = (
        {"feature": feature, "model": model},
        dict(zip(named.dimension.split(","), named.value.split(","), strict=True)),
    )
    assert single.items() <= pair.items()
    if len(single) < 2:  # one dimension says as much: next to nothing else of that value is usual
        share = [
            calls / whole
            for name, (calls, _) in series.items()
            if series_pairs(name) in ({"app": "bot", **single}, {"app": "bot", **pair})
        ]
        assert abs(share[0] - share[-1]) <= TIE + 0.02


def test_later_causes_are_clearer_where_they_name_what_was_not_named() -> None:
    broad = (Cause("", "broad", 0.4, "", normal=1.0),)
    feature = (Cause("feature", "chat", 0.95, "", named=True, normal=0.3),)
    user = (Cause("user", "u1", 0.9, "", named=True, normal=0.01),)
    assert is_clearer(feature, broad)
    assert is_clearer(user, feature)
    assert not is_clearer(feature, user)
    assert not is_clearer(user, user)
    assert not is_clearer(broad, broad)
    old = (Cause("user", "u1", 0.9, "user u1: 90% of the rise"),)
    assert not is_clearer(user, old), "an alert of the version before is not sent again for this alone"
