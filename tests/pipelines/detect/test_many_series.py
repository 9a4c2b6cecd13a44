"""What other series of an app do to the verdict on one: they are many, their mix changes, one has an incident."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pipelines.detect.detectors.minute_evidence import more_for_many
from pipelines.detect.detectors.per_call import PerCall
from pipelines.detect.detectors.spike_mix import mix_ratios
from pipelines.detect.windows import Windows
from tests.pipelines.detect.beside import Calls, Make, play, series

OWN = '{"app":"bot"}'


def test_the_values_of_a_dimension_share_the_false_alarms_of_one_series() -> None:
    calls = np.array([200.0, 100.0, 60.0, 40.0, 150.0, 50.0, 0.0])
    more = more_for_many(calls, np.array(["", "tenant", "tenant", "tenant", "model", "model", "model"]))
    assert more.tolist() == pytest.approx(
        [0, math.log(2), math.log(200 / 60), math.log(5), math.log(4 / 3), math.log(4), 0]
    )
    assert np.exp(-more[1:4]).sum() == pytest.approx(1.0)


def test_a_mix_of_tenants_explains_what_a_mix_of_models_does_not() -> None:
    windows = Windows("bot")
    names = [OWN, *(series(tenant=f"t{i}") for i in range(2)), *(series(model=f"m{i}") for i in range(2))]
    for name in names:
        windows.place(name, 0)
    # t1 costs ten times as much as t0 and has gone from 10 to 50 % of the calls; m1, as dear, too
    calls = np.array([100.0, 50.0, 50.0, 50.0, 50.0])
    normal = np.array([1.9, 1.0, 10.0, 1.0, 10.0])
    found = mix_ratios(windows, calls, normal, 0)
    assert found[[0, 3, 4]].tolist() == pytest.approx([5.5 / 1.9] * 3)
    assert found[[1, 2]].tolist() == [1.0, 1.0], "no mix of tenants explains what one of them does"
    unknown = mix_ratios(windows, calls, np.where(np.arange(5) == 2, 0.0, normal), 0)
    assert unknown[0] == 1.0, "a tenant of which nothing is known is taken to be as the app"


def two(since: float, *large: tuple[float, float]) -> Make:
    """``a`` is three times as large from hour 12 to 20; ``b`` comes at ``since``, four times so when ``large``."""

    def make(draws: np.random.Generator, hour: float, count: int) -> Calls:
        names = [series(tenant=name) for name in "abc"]
        shares = np.array([0.4, 0.25 * (hour >= since), 0.35])
        below = [names[i] for i in draws.choice(3, count, p=shares / shares.sum())]
        factor = {names[0]: 1.0 + 2.0 * (12 <= hour < 20), names[1]: 1.0 + 3.0 * any(a <= hour < b for a, b in large)}
        size = 1000 * draws.lognormal(0, 0.4, count) * np.array([factor.get(name, 1.0) for name in below])
        size = np.floor(size) + 1
        return Calls(below, size, np.full(count, 100), 0 * size, 0 * size + 500, 0 * size + 100, size * 5e-6)

    return make


def firing(make: Make, hours: float) -> list[str]:
    return [a.series.get("tenant", "") for a in play(make, hours, PerCall(), rate=0.6) if a.state == "firing"]


def test_what_others_do_while_one_has_an_incident_is_learned() -> None:
    """``b`` was as large before, in the time of the incident of ``a``: that it is so again is no news."""
    assert firing(two(13, (13, 17), (31, 32)), 33) == ["a"]


def test_a_second_incident_in_the_time_of_the_first_does_not_become_usual() -> None:
    assert firing(two(0, (14, 18), (28, 29)), 30) == ["a", "b"]
