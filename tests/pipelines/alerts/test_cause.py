"""The smallest series that explains the change names it; a value that always had its share explains nothing."""

from __future__ import annotations

import numpy as np

from pipelines.alerts.cause import explain

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
