"""Precision by rule, the threshold that is proposed, and what a back-test says of it. No clock, no I/O."""

from __future__ import annotations

import itertools
from dataclasses import fields
from datetime import date

import pytest
from msgspec.structs import replace

from jobs.alert_quality import (
    AlertQuality,
    Incident,
    Tried,
    cost,
    effect,
    precisions,
    proposals,
    propose,
)
from jobs.alert_quality.thresholds import MIN_NOISE, THRESHOLDS
from jobs.evals.markdown import alert_lines
from pipelines.detect.detectors import DETECTORS
from schemas.alerts import Alert, Impact, Verdict, Window, alert_id
from tests.tailrace.alerts import alert

CURRENT = {"spike": {"ratio": 3.0, "floor_usd_per_hour": 1.0}, "surge": {"lift": 2.0, "rise": 0.01}}
NUMBERS = itertools.count(1)


def incident(
    verdict: Verdict | None,
    ratio: float = 4.0,
    *,
    hourly: float = 2.0,
    rule: str = "spike_cost",
    minute: int = 0,
    app: str = "shop",
    detector: str = "spike",
) -> Incident:
    series = {"app": app}
    made = alert(
        series,
        rule=rule,
        detector=detector,
        id=alert_id(rule, series, next(NUMBERS)),
        observed=2.0 * ratio,
        expected=2.0,
        unit="USD",
        impact=Impact(usd_per_hour=hourly),
        window=Window(f"2026-07-01T10:{minute:02}:00Z", f"2026-07-01T10:{minute:02}:30Z"),
    )
    return Incident((made, replace(made, seq=1, state="resolved", observed=made.observed / 2)), verdict)


def test_precision_is_useful_among_useful_and_noise_and_known_is_apart() -> None:
    found = [incident("useful")] * 3 + [incident("noise")] + [incident("known")] * 2 + [incident(None)]
    (rule,) = precisions(found)
    assert (rule.useful, rule.noise, rule.known, rule.unjudged) == (3, 1, 2, 1)
    assert rule.precision == 0.75
    assert rule.interval == pytest.approx((0.3006, 0.9544), abs=1e-4)  # Wilson 1927, 3 of 4


def test_a_rule_that_nobody_judged_has_no_precision_and_the_noisiest_comes_first() -> None:
    found = precisions([incident(None), *[incident("noise", rule="surge_errors", detector="surge")] * 2])
    assert [(r.rule, r.precision) for r in found] == [("surge_errors", 0.0), ("spike_cost", None)]
    assert found[1].interval is None


def test_a_threshold_lies_between_the_noise_and_the_useful_alerts() -> None:
    found = [incident("noise", r) for r in (3.2, 4.0, 5.0)] + [incident("useful", r) for r in (20.0, 80.0)]
    proposal = propose("spike_cost", found, CURRENT)
    assert proposal is not None
    assert (proposal.setting, proposal.now, proposal.below, proposal.noise) == ("spike.ratio=10", 3.0, 3, 3)


def test_without_a_useful_alert_it_lies_above_the_noise() -> None:
    found = [incident("noise", r, hourly=h) for r, h in ((3.2, 9.0), (4.0, 5.0), (5.0, 7.0))]
    proposal = propose("spike_cost", found, CURRENT)
    assert proposal is not None
    assert proposal.setting == "spike.ratio=5.5", "of two that keep all noise away the one that changes less"


def test_the_useful_alerts_of_every_rule_that_a_field_holds_for_bound_it() -> None:
    noise = [incident("noise", r, hourly=100.0) for r in (5.0, 6.0, 7.0)]
    calls = incident("useful", 4.0, rule="spike_calls")
    proposal = propose("spike_cost", [*noise, calls], CURRENT)
    assert proposal is not None
    assert proposal.field == "floor_usd_per_hour", "a ratio above 4 would have kept the useful alert away"


@pytest.mark.parametrize(
    "found",
    [
        [incident("noise")] * (MIN_NOISE - 1),
        [incident("noise", 50.0, hourly=50.0)] * 3 + [incident("useful", 4.0, hourly=4.0)],
        [incident("noise", 2.0, hourly=0.5)] * 3,
        [incident("known")] * 5,
        [incident("noise", rule="input_drift", detector="drift")] * 3,
    ],
    ids=["too little noise", "noise is larger", "below what holds", "known", "a rule without a threshold"],
)
def test_where_no_threshold_is_better_none_is_proposed(found: list[Incident]) -> None:
    assert propose(found[0].first.rule, found, CURRENT) is None


def test_what_cannot_be_told_of_a_useful_alert_is_no_bound_that_may_be_passed() -> None:
    useful = incident("useful", 20.0)
    unknown = Incident(tuple(replace(a, expected=0.0, impact=Impact()) for a in useful.states), "useful")
    assert propose("spike_cost", [incident("noise", r) for r in (4.0, 5.0, 6.0)] + [unknown], CURRENT) is None


def test_every_threshold_is_a_number_of_a_detector() -> None:
    known = {d.name: {f.name: getattr(d, f.name) for f in fields(d)} for d in DETECTORS}  # type: ignore[arg-type]
    for threshold in THRESHOLDS:
        assert isinstance(known[threshold.detector][threshold.field], int | float), threshold


def states(*incidents: Incident) -> list[Alert]:
    return [state for each in incidents for state in each.states]


def test_the_effect_is_counted_among_what_the_back_test_finds_with_the_rules_as_they_are() -> None:
    noise = [incident("noise", minute=minute) for minute in (0, 15, 30)]
    useful = [incident("useful", minute=50), incident("useful", app="help")]
    now, then = states(*noise[:2], *useful), states(noise[0], *useful)
    found = effect([*noise, *useful], now, then)
    assert (found.noise.judged, found.noise.found, found.noise.kept, found.noise.gone) == (3, 2, 1, 1)
    assert (found.useful.found, found.useful.kept) == (2, 2)
    assert found.text() == (
        "1 of 2 noise alerts vanish, 2 of 2 useful ones stay; 4 alerts become 3; "
        "1 judged alerts are not found again with the rules as they are"
    )


def test_an_alert_that_begins_a_little_later_under_another_id_is_the_same_one() -> None:
    old, later = incident("noise", minute=10), incident(None, minute=12, rule="spike_tokens")
    assert effect([old], states(old), states(later)).noise.kept == 1
    assert effect([old], states(old), states(incident(None, minute=40))).noise.kept == 0
    assert effect([old], states(old), states(incident(None, minute=10, app="help"))).noise.kept == 0


def test_the_report_says_what_is_proposed_what_came_of_it_and_that_nothing_is_applied() -> None:
    found = [incident("noise", r, minute=m) for r, m in ((3.2, 0), (4.0, 10), (5.0, 20))]
    found.append(incident("useful", 20.0, minute=40))
    surges = [incident("noise", 9.0, rule="surge_errors", detector="surge")] * 3
    surges += [incident("useful", 1.0, rule="surge_errors", detector="surge")]
    proposed, none = proposals([*found, *surges], CURRENT)
    assert (len(proposed), none) == (1, ["surge_errors"])
    seen = effect(found, states(*found), states(found[-1]))
    tried = (
        Tried(proposed[0], seen, "tailrace backtest --verdicts", cost(3_000_000)),
        Tried(proposed[0], None, "tailrace backtest --verdicts", cost(10)),
    )
    quality = AlertQuality(date(2026, 6, 4), date(2026, 7, 1), precisions([*found, *surges]), tried, tuple(none))
    text = "\n".join(alert_lines(quality))
    for part in (
        "| spike\\_cost | 1 | 3 | 0 | 0 | 25 % | 5 to 70 % |",
        "spike.ratio = 10 in place of 3 is proposed, and not applied.",
        "3 of 3 noise alerts stayed below it, and no useful one.",
        "Back-test: 3 of 3 noise alerts vanish, 1 of 1 useful ones stay; 4 alerts become 1.",
        "Not back-tested here: `tailrace backtest --verdicts` does it; it judges 10 rows of rollups twice, about 1 min",
        "3,000,000 rows of rollups twice, about 7 min on one core",
        "surge\\_errors: no threshold keeps its noise away without a useful alert.",
    ):
        assert part in text, text
    data = quality.data()
    assert data["proposals"][0]["backtest"]["noise"] == {"judged": 3, "found": 3, "kept": 0}
    assert quality.sentence() == (
        "Alerts of four weeks: 2 of 8 judged alerts were useful, 0 have no verdict; 2 thresholds are proposed."
    )
