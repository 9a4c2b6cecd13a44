"""A drop over 5 points fires once, stays open while it lasts, and is resolved when the scores are back."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from msgspec.structs import replace

from jobs.evals.page import to_html
from jobs.evals.quality_alerts import quality_alerts
from jobs.evals.summary import Period, summarise
from tests.jobs.evals.lake import LakeOutlet, call, land_calls, run
from tests.jobs.evals.test_page import read, rows
from warehouse.evals.scores import runs, scores
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

NOW = 1_796_000_000_000_000


def week(number: int, drop: float, drop_before: float, version: str = "v1", name: str = "answered"):
    first = date(2026, 11, 9) + timedelta(days=7 * number)
    periods = [Period(day, day + timedelta(days=6), f"run-{day}") for day in (first, first - timedelta(days=7))]
    made = [row | {"version": version, "name": name} for row in rows(10 + number, drop)]
    before = [row | {"name": name} for row in rows(20 + number, drop_before)]
    return summarise(made, before, period=periods[0], baseline=periods[1])


def test_a_drop_is_named_by_the_slice_that_holds_it():
    (decision,) = week(0, 0.3, 0.0).decisions
    assert decision.line.series in ({"app": "search"}, {"app": "search", "feature": "answer"})
    (alert,) = quality_alerts(week(0, 0.3, 0.0), [], now=NOW)
    assert (alert.state, alert.severity, alert.seq, alert.unit) == ("firing", "critical", 0, "share")
    assert alert.series["app"] == "search"
    assert alert.series["scorer"] == "answered"
    assert alert.observed < alert.expected - 0.2
    assert (alert.window.start, alert.window.end) == ("2026-11-09T00:00:00.000Z", "2026-11-16T00:00:00.000Z")
    assert alert.evidence.call_ids
    assert alert.title.startswith("answered of")


def test_a_scorer_that_only_informs_asks_for_no_decision_and_raises_nothing():
    found = week(0, 0.3, 0.0, name="groundedness")
    assert any(line.significant for line in found.lines)
    assert found.decisions == ()
    assert quality_alerts(week(0, 0.3, 0.0, name="groundedness"), [], now=NOW) == ()


def test_scorers_that_fell_over_the_same_slice_are_one_decision_and_one_alert():
    periods = [Period(date(2026, 11, 9), date(2026, 11, 15), "r"), Period(date(2026, 11, 2), date(2026, 11, 8))]
    names = ("answered", "judge.safe", "language", "complete", "groundedness")
    made = [row | {"name": name} for name in names for row in rows(10, 0.3)]
    before = [row | {"name": name} for name in names for row in rows(20, 0.0)]
    found = summarise(made, before, period=periods[0], baseline=periods[1])
    (decision,) = found.decisions
    assert (decision.line.scorer, decision.also) == ("answered", ("complete", "judge.safe", "language"))
    assert "(complete, judge.safe, language fell as well)" in decision.sentence
    (alert,) = quality_alerts(found, [], now=NOW)
    assert alert.series["scorer"] == "answered"
    assert "Fell as well: complete, judge.safe, language." in read(to_html(found)).text


def test_small_changes_and_a_first_week_raise_nothing():
    assert quality_alerts(week(0, 0.01, 0.0), [], now=NOW) == ()
    first = summarise(rows(1, 0.5), None, period=Period(date(2026, 11, 9), date(2026, 11, 15)))
    assert quality_alerts(first, [], now=NOW) == ()


def test_one_incident_is_one_alert_until_the_scores_are_back():
    (fired,) = quality_alerts(week(0, 0.3, 0.0), [], now=NOW)
    assert quality_alerts(week(0, 0.3, 0.0), [fired], now=NOW) == ()  # the job runs again
    assert quality_alerts(week(1, 0.3, 0.3), [fired], now=NOW) == ()  # still low: no change, not over
    (resolved,) = quality_alerts(week(2, 0.0, 0.3), [fired], now=NOW)
    assert (resolved.id, resolved.seq, resolved.state) == (fired.id, 1, "resolved")
    assert resolved.window.end == "2026-11-23T00:00:00.000Z"
    assert resolved.title.startswith("over: answered of")


def test_after_another_version_of_the_scorer_the_alert_is_closed_without_a_verdict():
    (fired,) = quality_alerts(week(0, 0.3, 0.0), [], now=NOW)
    (closed,) = quality_alerts(week(2, 0.0, 0.0, version="v2"), [fired], now=NOW)
    assert closed.state == "resolved"
    assert closed.title == "closed without a verdict: answered changed, so that later scores cannot be compared"
    assert (closed.observed, closed.expected) == (fired.observed, fired.expected)


def test_a_slice_without_calls_in_a_later_week_is_closed_and_one_in_the_same_week_is_not():
    (fired,) = quality_alerts(week(0, 0.3, 0.0), [], now=NOW)
    gone = replace(fired, series={**fired.series, "prompt_version": "9"}, fingerprint="other")
    (closed,) = quality_alerts(week(2, 0.3, 0.0), [fired, gone], now=NOW)
    assert (closed.fingerprint, closed.state) == ("other", "resolved")
    assert "no calls of" in closed.title
    assert quality_alerts(week(0, 0.3, 0.0), [fired, gone], now=NOW) == ()


def test_a_drop_is_critical_where_the_whole_interval_lies_beyond_ten_points():
    (vague,) = quality_alerts(week(0, 0.08, 0.0), [], now=NOW)
    (sure,) = quality_alerts(week(0, 0.3, 0.0), [], now=NOW)
    assert (vague.severity, sure.severity) == ("warning", "critical")
    assert vague.expected - vague.observed > 0.1


def test_the_evidence_returns_what_was_observed(config: LakeConfig, outlet: LakeOutlet):
    """Over a real lake: the weighted mean of the report, to the last digits that floats have."""
    land_calls(config, [call(i, finish_reason="length" if i % 5 == 0 else "stop") for i in range(300)])
    run(config, outlet)
    outlet.land()
    days = (date(2026, 11, 9), date(2026, 11, 15))
    with ReadOnlyLake.open(config) as lake:
        stored = runs(lake, *days)[0]
        found = scores(lake, stored.run_id, *days)
        before = [row | {"score": 1.0 if i % 50 else 0.0} for i, row in enumerate(found) if row["score"] is not None]
        period = Period(*days, stored.run_id)
        summary = summarise(found, before, period=period, baseline=Period(*days))
        (alert,) = quality_alerts(summary, [], now=NOW)
        assert lake.query(alert.evidence.sql)["observed"][0].as_py() == pytest.approx(alert.observed, rel=1e-12)
