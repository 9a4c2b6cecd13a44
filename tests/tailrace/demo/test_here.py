"""Which of the planted incidents alerted, where the stages may name users by pseudonyms."""

from dataclasses import replace

from schemas.alerts import Alert, State, Window
from tailrace.demo.here import Outcome, judged
from tailrace.demo.traffic import Incident

SPIKE = Incident("cost_spike", "support-bot", 1, 2, 9.0, "u-support-bot-284")
SURGE = Incident("guardrail_surge", "support-bot", 1, 2, 0.4, "pii", "block")


def alert(detector: str, state: State = "firing", **series: str) -> Alert:
    window = Window("2026-07-01T10:00:00Z", "2026-07-01T10:01:00Z")
    return Alert(
        id="a",
        fingerprint="f",
        detector=detector,
        rule="r",
        state=state,
        seq=0,
        observed=2.0,
        expected=1.0,
        score=9.0,
        severity="critical",
        unit="usd",
        detected_at="2026-07-01T10:01:02Z",
        series={"app": "support-bot", **series},
        window=window,
    )


def test_a_user_is_found_by_name_and_by_pseudonym():
    for user in ("u-support-bot-284", "u_595a296111e99cec5befb2d6ca98c7ab"):
        outcome = Outcome((SPIKE, SURGE), alerts=[alert("spike", user=user)])
        assert outcome.missing == [SURGE]


def test_what_is_about_another_series_or_only_resolved_does_not_count():
    others = [alert("spike"), alert("surge", guardrail="other"), alert("surge", "resolved", guardrail="pii")]
    assert Outcome((SPIKE, SURGE), alerts=others).missing == [SPIKE, SURGE]
    elsewhere = replace(SPIKE, app="code-helper")
    assert Outcome((elsewhere,), alerts=[alert("spike", user="u-1")]).missing == [elsewhere]


def test_each_incident_has_a_line():
    outcome = Outcome((SPIKE, SURGE), alerts=[alert("surge", guardrail="pii")])
    assert judged(outcome) == [
        "cost_spike on support-bot (u-support-bot-284): NO ALERT",
        "guardrail_surge on support-bot (pii): alerted",
    ]
