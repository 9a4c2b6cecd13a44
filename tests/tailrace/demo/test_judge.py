"""The demo's verdict: exactly the planted incidents, each fired once and resolved once, and nothing else."""

import pytest

from schemas.alerts import Alert
from tailrace.demo.judge import complete, judge
from tailrace.demo.traffic import Incident
from tests.tailrace.alerts import alert

SPIKE = Incident("cost_spike", "support-bot", 0, 20, 9.0, "u-support-bot-7")
SURGE = Incident("guardrail_surge", "code-helper", 30, 50, 0.4, "secrets", "block")
SHIFT = Incident("topic_shift", "support-bot", 60, 80, 0.6, "1")
PLANTED = (SPIKE, SURGE, SHIFT)
SERIES = {
    "spike": {"app": "support-bot", "user": "u-support-bot-7"},
    "surge": {"app": "code-helper", "guardrail": "secrets"},
    "drift": {"app": "support-bot", "side": "input"},
}


def told_of(detector: str, state: str, **series: str) -> Alert:
    seq = 0 if state == "firing" else 1
    return alert({**SERIES[detector], **series}, rule=detector, detector=detector, state=state, seq=seq)


def told() -> list[Alert]:
    return [told_of(detector, state) for detector in SERIES for state in ("firing", "resolved")]


def test_each_incident_fired_once_and_resolved_once_is_no_problem():
    assert judge(PLANTED, told()) == []
    assert complete(PLANTED, told())


@pytest.mark.parametrize("lost", range(6))
def test_a_missing_alert_is_a_problem(lost):
    alerts = told()
    gone = alerts.pop(lost)
    (problem,) = judge(PLANTED, alerts)
    assert f"0 x {gone.state}" in problem
    assert complete(PLANTED, alerts) == (gone.state == "firing")


def test_an_alert_told_twice_is_a_problem():
    assert judge(PLANTED, [*told(), told_of("surge", "firing")]) == [
        "guardrail_surge on code-helper (secrets): 2 x firing, expected 1"
    ]


@pytest.mark.parametrize(
    "other",
    [
        told_of("spike", "firing", user="u-support-bot-8"),
        told_of("spike", "firing", app="doc-search"),
        told_of("surge", "firing", guardrail="pii"),
        told_of("drift", "firing", side="output"),
    ],
    ids=["user", "app", "guardrail", "side"],
)
def test_an_alert_on_another_series_is_a_problem(other):
    (problem,) = judge(PLANTED, [*told(), other])
    assert problem.startswith("not planted: ")


def test_a_calm_stream_takes_no_alert_at_all():
    assert judge((), []) == []
    assert len(judge((), told())) == 6
