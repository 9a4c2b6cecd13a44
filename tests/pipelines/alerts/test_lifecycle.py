"""Firing, update, resolved: once each, and under ids that a replay gives again."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipelines.alerts.compose import title
from pipelines.alerts.finding import Finding
from pipelines.alerts.lifecycle import Lifecycle, Silence, Timing, advance, silenced
from schemas.alerts import Alert, Window, alert_id

S = 1_000_000
NOW = 1_800_000_000 * S


def finding(**changes: object) -> Finding:
    base = Finding(
        detector="surge",
        rule="surge_guardrail",
        family="guardrail:pii",
        measure="guardrail:pii",
        target='{"app":"bot"}',
        series={"app": "bot", "guardrail": "pii"},
        start=NOW,
        end=NOW + 10 * S,
        observed=0.4,
        expected=0.01,
        score=20.0,
        unit="share",
        excess=20.0,
        calls=21,
    )
    return replace(base, **changes)


BLOCKED = finding(
    rule="surge_blocked", family="blocked", measure="blocked", series={"app": "bot"}, rank=2, expected=0.0, excess=21.0
)


def at(life: Lifecycle, second: int, *found: Finding, calm: dict[str, int] | None = None, **timing: float) -> list[str]:
    told = advance(life, found, wall=NOW + second * S, at=NOW + second * S, calm=calm or {}, timing=Timing(**timing))
    return [f"{t.state} {t.finding.rule} {t.incident.seq}" for t in told]


def test_a_finding_fires_once_after_it_was_held_and_resolves_once() -> None:
    life = Lifecycle()
    assert at(life, 0, finding()) == []
    assert at(life, 2, finding()) == []
    assert at(life, 3, finding()) == ["firing surge_guardrail 0"]
    assert at(life, 9, finding()) == []
    assert at(life, 40, calm={"guardrail:pii": NOW + 20 * S}) == ["resolved surge_guardrail 1"]
    assert life.open == {}


def test_a_flicker_does_not_ring() -> None:
    life = Lifecycle()
    for second in range(0, 20, 2):
        assert at(life, second, *([finding()] if second % 4 == 0 else [])) == []


def test_the_id_is_that_of_rule_series_and_start() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding(start=NOW - 5 * S))
    incident = life.open["guardrail:pii"]
    assert incident.id == alert_id("surge_guardrail", {"app": "bot", "guardrail": "pii"}, NOW - 5 * S)


def test_blocked_calls_follow_the_guardrail_that_blocked_them_even_if_they_were_proved_first() -> None:
    life = Lifecycle()
    weak = finding(weak=True)
    assert at(life, 0, BLOCKED, weak) == []
    assert at(life, 3, BLOCKED, weak) == ["firing surge_guardrail 0"]
    assert life.open["guardrail:pii"].followers == ["blocked"]
    assert at(life, 4, BLOCKED) == []
    assert at(life, 40, calm={"guardrail:pii": NOW + 20 * S}) == ["resolved surge_guardrail 1"]


def test_blocked_calls_that_come_later_are_an_update_of_the_open_incident() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    assert at(life, 4, BLOCKED) == ["update surge_guardrail 1"]
    assert at(life, 5, BLOCKED) == []
    assert life.open["guardrail:pii"].finding.children == ({"app": "bot", "rule": "surge_blocked"},)


def test_two_causes_a_minute_apart_are_two_incidents() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    later = replace(BLOCKED, start=NOW + 90 * S)
    assert at(life, 100, later) == []
    assert at(life, 106, later) == ["firing surge_blocked 0"]


def test_what_pauses_is_not_over_and_stays_quiet_until_it_has_cooled_down() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    at(life, 40, calm={"guardrail:pii": NOW + 20 * S})
    again = finding(start=NOW + 60 * S)
    assert at(life, 100, again) == []
    assert at(life, 110, again) == []
    assert at(life, 700, again) == []
    assert at(life, 703, again) == ["firing surge_guardrail 0"]


def test_an_open_alert_is_told_again_and_at_last_accepted_as_the_new_normal() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    assert at(life, 100, finding(), renotify_s=60) == ["update surge_guardrail 1"]
    assert at(life, 110, finding(), renotify_s=60) == []
    assert at(life, 4000, accept_s=3600) == ["resolved surge_guardrail 2"]


def flapping(
    targets: int, *, on_s: int = 120, off_s: int = 120, hours: int = 12, **timing: float
) -> list[tuple[int, str]]:
    """(second, state) of all that is told of a series that is out of the ordinary for ``on_s`` and quiet for ``off_s``.

    As the detectors do: calm after 30 s below, and one of ``targets`` users at fault, in turn.
    """
    life, told = Lifecycle(), []
    for second in range(hours * 3600):
        since = second // (on_s + off_s) * (on_s + off_s)
        user = f"u{since // (on_s + off_s) % targets}"
        ringing = second - since < on_s
        found = finding(target=user, series={"user": user}, start=NOW + since * S)
        calm = {
            family: NOW + (since + on_s) * S
            for family, incident in life.open.items()
            if second - since >= on_s + 30 or incident.finding.start < NOW + since * S
        }
        told += [(second, said) for said in at(life, second, *([found] if ringing else []), calm=calm, **timing)]
    return told


def busiest_hour(told: list[tuple[int, str]], state: str) -> int:
    times = [second for second, said in told if said.startswith(state)]
    return max((sum(0 <= other - second < 3600 for other in times) for second in times), default=0)


def test_a_series_that_flaps_all_day_rings_six_times_an_hour_at_most() -> None:
    """Ten minutes of rest after each incident; two messages for each, and nothing is told twice."""
    told = flapping(1)
    assert 4 <= busiest_hour(told, "firing") <= 6
    assert busiest_hour(told, "resolved") <= 6
    assert busiest_hour(told, "update") == 0
    assert busiest_hour(flapping(1, cooldown_s=0.0, cooldown_family_s=0.0), "firing") == 15, "what rest spares"


@pytest.mark.parametrize(("on_s", "off_s"), [(120, 120), (20, 40), (5, 31)])
def test_another_culprit_each_time_rings_once_a_minute_at_most(on_s: int, off_s: int) -> None:
    """Other series of the family rest for one minute only: it is another cause, of which to be told."""
    assert 0 < busiest_hour(flapping(1000, on_s=on_s, off_s=off_s), "firing") <= 60
    assert busiest_hour(flapping(1000, on_s=5, off_s=31, hours=1, cooldown_family_s=0.0), "firing") > 60


def test_an_incident_that_outlasts_the_rest_is_told_when_it_ends() -> None:
    told = flapping(1, on_s=900, off_s=60, hours=2)
    firing = [second for second, said in told if said.startswith("firing")]
    # the rest of 600 s begins with the end of the first, 60 s before the second begins
    assert firing[:2] == [3, 900 + 600 + 3], "held for 3 s as ever"


def test_a_silence_matches_by_series_rule_and_time() -> None:
    alert = Alert(
        id="1", seq=0, fingerprint="f", detector="spike", rule="spike_cost", severity="warning", state="firing",
        series={"app": "bot", "user": "u1"}, window=Window("", ""), observed=1, expected=0, score=1, unit="USD",
        detected_at="",
    )  # fmt: skip
    assert silenced(alert, [Silence(0, 10, {"app": "bot"})], 5)
    assert silenced(alert, [Silence(0, 10, {}, "spike_cost")], 5)
    assert not silenced(alert, [Silence(0, 10, {"app": "bot"})], 10)
    assert not silenced(alert, [Silence(0, 10, {"app": "other"})], 5)
    assert not silenced(alert, [Silence(0, 10, {}, "spike_calls")], 5)


def test_a_title_is_one_plain_line() -> None:
    assert title(finding(), "firing") == "app bot: guardrail pii in 40.0% of calls, usually 1.0%"
    spend = finding(rule="spike_cost", measure="cost", unit="USD", observed=9.5, expected=0.5, series={"app": "bot"})
    assert title(spend, "resolved") == "over: app bot: cost 9.5 USD, 19.0x the usual"
