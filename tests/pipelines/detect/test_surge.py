"""surge: what it learns and what it keeps out of its baseline, at the rates that most apps have."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pipelines.alerts.lifecycle import Timing
from pipelines.detect.detectors.surge import Surge
from pipelines.detect.detectors.surge_limits import limits_of, overdispersion
from pipelines.detect.detectors.surge_state import KINDS
from pipelines.detect.items import Batch
from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump
from schemas.alerts import Alert
from schemas.rollups import series_key
from tests.pipelines.detect.shares import Shares, learned


def states(alerts: list[Alert]) -> list[str]:
    return [a.state for a in alerts if a.state != "update"]


def least_calls(limit: float, share: float, evidence: float) -> float:
    """Calls that any test needs on average to tell ``share`` from ``limit``, at one false alarm in e^evidence calls.

    The evidence over the divergence of the two Bernoulli distributions (Lorden, Ann. Math. Stat. 42, 1971, theorem 3).
    """
    divergence = share * math.log(share / limit) + (1 - share) * math.log((1 - share) / (1 - limit))
    return evidence / divergence


def test_a_share_of_cut_off_answers_that_rises_from_1_to_6_percent_is_found_with_every_seed() -> None:
    """At 0.4 calls/s, as most apps have.

    The least number for a test that knows both shares, 1 and 6 %, beforehand is 204 calls.
    """
    delays = []
    for seed in range(12):
        traffic = Shares(0.4, [(3, 0.01), (2, 0.06)], seed)
        firing, *_ = traffic.played(first=True)
        assert (firing.state, firing.rule) == ("firing", "surge_truncated"), seed
        delays.append(traffic.calls_until(firing.window.end, 3))
    least = least_calls(0.01, 0.06, Surge().evidence)
    assert least == pytest.approx(204, abs=1)
    assert min(delays) > 0
    assert np.median(delays) < 2 * least, delays
    assert max(delays) < 5 * least, delays


def test_an_incident_that_took_long_to_be_found_is_not_in_the_baseline_when_it_is_over() -> None:
    state = PartitionState()
    alerts = Shares(0.4, [(3, 0.01), (1.5, 0.06), (1.5, 0.01)], 2).played(state=state)
    assert states(alerts) == ["firing", "resolved"]
    assert 0.009 < learned(state) < 0.013


@pytest.mark.parametrize("rate", [0.4, 0.7])
def test_a_provider_that_fails_a_quarter_of_the_calls_for_hours_is_one_incident_and_not_in_the_baseline(
    rate: float,
) -> None:
    state = PartitionState()
    alerts = Shares(rate, [(12, 0.003), (3.5, 0.25), (3, 0.003)], 1, kind="errors").played(state=state)
    assert states(alerts) == ["firing", "resolved"]
    assert len(alerts) >= 4, "updates while it lasts"
    assert len({a.id for a in alerts}) == 1
    assert [a.seq for a in alerts] == list(range(len(alerts)))
    assert learned(state, "errors") < 0.006


def test_a_rise_that_is_not_worth_an_alert_is_learned() -> None:
    """From 20 to 33 % is more than the tolerance and less than twice: evidence gathers, and no alert is due."""
    state = PartitionState()
    alerts = Shares(0.4, [(8, 0.2), (24, 0.33)], 2, kind="fallbacks").played(state=state)
    assert alerts == []
    assert learned(state, "fallbacks") == pytest.approx(0.32, abs=0.02)


def test_a_share_that_rises_slowly_without_an_incident_is_learned() -> None:
    state = PartitionState()
    ramp = [(1.0, 0.02 * 1.5 ** (hour / 24)) for hour in range(48)]
    assert Shares(0.4, ramp, 3).played(state=state) == []
    assert learned(state) > 0.033


def test_a_level_that_was_accepted_is_learned_and_does_not_fire_again() -> None:
    state = PartitionState()
    timing = Timing(accept_s=3600.0)
    alerts = Shares(0.4, [(6, 0.01), (14, 0.06)], 4).played(Judge((Surge(),), timing), state)
    assert states(alerts) == ["firing", "resolved"]
    assert learned(state) > 0.04


def test_reported_costs_that_differ_from_the_first_call_on_are_alerted_and_never_learned() -> None:
    """A price list that is wrong does not become right: a share of 20 % is above the 1 % that may be normal."""
    state = PartitionState()
    alerts = Shares(0.4, [(8, 0.2), (3, 0.0)], 6, kind="cost_differs").played(state=state)
    assert states(alerts) == ["firing", "resolved"]
    assert alerts[0].rule == "surge_cost_differs"
    assert learned(state, "cost_differs") <= 0.01
    assert Shares(0.4, [(24, 0.008)], 6, kind="cost_differs").played() == []


@pytest.mark.parametrize("rate", [0.01, 0.4, 20.0])
def test_many_buckets_at_once_give_the_same_as_one_by_one_while_evidence_is_pending(rate: float) -> None:
    """Rises that are dismissed, alerted, and in between silence: alerts and states are equal to the last digit."""
    traffic = Shares(rate, [(6, 0.01), (1, 0.03), (1, 0.01), (0.5, 0.0), (1, 0.06), (0.5, 0.01)], 5)
    traffic.calls[8 * 360 : int(8.5 * 360)] = 0
    found = []
    for together in (False, True):
        state = PartitionState()
        found.append((traffic.played(Judge((Surge(),), together=together), state), dump(state)))
    assert found[0] == found[1]


@pytest.mark.parametrize("rate", [0.4, 4.0])
def test_a_share_that_goes_up_and_down_with_the_day_is_no_incident(rate: float) -> None:
    day = [(1.0, 0.03 * (1 + 0.4 * math.sin(2 * math.pi * hour / 24))) for hour in range(24)]
    assert Shares(rate, day * 4, 1).played() == []


def test_the_limit_of_a_share_is_wide_where_little_is_learned_or_the_share_moves() -> None:
    surge = Surge()
    hits, calls, one = np.array([2.0, 25.0, 10_000.0]), np.array([400.0, 5_000.0, 2_000_000.0]), np.ones(3)
    # the third is nearer to 0.5 % than a tenth and 0.1 points
    assert limits_of(surge, hits, calls, one) == pytest.approx([0.02461, 0.0082019, 0.0065], rel=1e-3)
    assert (limits_of(surge, hits, calls, 4 * one)[:2] > limits_of(surge, hits, calls, one)[:2]).all()
    assert limits_of(surge, np.zeros(1), np.zeros(1), np.ones(1)) == pytest.approx([0.97])


def test_chance_alone_is_no_overdispersion_and_a_share_that_moves_by_ten_minutes_is() -> None:
    found = []
    for swing in (0.0, 0.8):
        state, rng = PartitionState(), np.random.default_rng(3)
        Shares(4.0, [(1 / 6, 0.02 * (1 + swing * rng.choice([-1, 1]))) for _ in range(24 * 6)], 2).played(state=state)
        found.append(float(overdispersion(Surge(), state.apps["bot"].surge)[0, KINDS.index("truncated")]))
    assert found[0] < 1.2
    # of 2,400 calls 48 hits are expected, and what the share moves adds 0.64 * 48 times the variance of chance to it
    assert found[1] > 5


class OneModel(Shares):
    """An app of two models: ``part`` is one of them, and the app's own series holds it, too."""

    def __init__(self, rest: Shares, part: Shares) -> None:
        self.part = part
        super().__init__(rest.rate, rest.stretches, rest.seed, rest.kind)
        self.calls, self.hits = self.calls + part.calls, self.hits + part.hits

    def _batch(self, rows: np.ndarray, wall: int, next_offset: int) -> Batch:
        own = super()._batch(rows, wall, next_offset)
        mine = self.part._batch(rows[self.part.calls[rows] > 0], wall, next_offset)
        series = series_key({"app": "bot", "model": "m"})[1]
        return replace(
            own,
            series=[*own.series, *[series] * len(mine.series)],
            starts=np.concatenate([own.starts, mine.starts]),
            sums=np.concatenate([own.sums, mine.sums]),
        )


def test_a_model_is_named_though_five_minutes_hold_fewer_of_its_hits_than_an_alert_needs() -> None:
    """At 0.1 calls/s a share of 12 % is 3.6 hits in five minutes; since the onset there are many."""
    for seed in range(6):
        traffic = OneModel(Shares(0.4, [(3, 0.01), (2, 0.01)], seed), Shares(0.1, [(3, 0.01), (2, 0.12)], seed + 50))
        firing, *_ = traffic.played(first=True)
        assert firing.series == {"app": "bot", "model": "m"}, (seed, firing.title)
