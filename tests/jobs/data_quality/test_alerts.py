"""One alert an expectation that fails: it fires once, stays while it fails, and is resolved by a run that passes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from jobs.data_quality import Outcome
from jobs.data_quality.alerts import data_quality_alerts
from pipelines.notify.format import headline
from tests.jobs.data_quality.lake import WELL, window

HOURS = [window(WELL + timedelta(hours=n)) for n in range(4)]
FAILED = Outcome(
    *("calls", "unpriced_share", "At most 10 % of the calls have no cost.", "expect_x", "warning", "failed"),
    failing=2,
    judged=9,
    rows=9,
    observed=30.0,
    unit="rows",
    scopes=("bot", "shop"),
    sql="SELECT 30 AS observed",
)


def test_it_fires_once_and_is_resolved_once():
    (alert,) = data_quality_alerts([FAILED], [], HOURS[0])
    assert (alert.state, alert.seq, alert.detector, alert.severity) == ("firing", 0, "data_quality", "warning")
    assert alert.series == {"suite": "calls", "expectation": "unpriced_share"}
    assert (alert.observed, alert.unit, alert.evidence.sql) == (30.0, "rows", "SELECT 30 AS observed")
    assert [cause.value for cause in alert.cause] == ["bot", "shop"]
    assert data_quality_alerts([FAILED], [alert], HOURS[1]) == ()
    (over,) = data_quality_alerts([replace(FAILED, state="passed")], [alert], HOURS[2])
    assert (over.id, over.seq, over.state) == (alert.id, 1, "resolved")
    (again,) = data_quality_alerts([FAILED], [], HOURS[3])
    assert again.id != alert.id
    assert again.fingerprint == alert.fingerprint


def test_what_could_not_be_judged_changes_nothing():
    (alert,) = data_quality_alerts([FAILED], [], HOURS[0])
    for state in ("unknown", "error"):
        assert data_quality_alerts([replace(FAILED, state=state)], [alert], HOURS[1]) == ()
        assert data_quality_alerts([replace(FAILED, state=state)], [], HOURS[1]) == ()


def test_an_earlier_hour_judged_later_resolves_nothing():
    (alert,) = data_quality_alerts([FAILED], [], HOURS[2])
    assert data_quality_alerts([replace(FAILED, state="passed")], [alert], HOURS[0]) == ()


def test_the_same_hour_judged_again_is_the_same_alert():
    (one,), (two,) = (data_quality_alerts([FAILED], [], HOURS[0]) for _ in range(2))
    assert one == two


def test_the_headline_says_what_was_expected():
    (alert,) = data_quality_alerts([replace(FAILED, scopes=("a\u202eb",))], [], HOURS[0])
    words = headline(alert)
    assert "calls: expectation unpriced_share failed in a b. Expected: At most 10 % of the calls have no cost." in words
