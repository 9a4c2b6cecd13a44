"""Firing, update, resolved: once each, and under ids that a replay gives again."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipelines.alerts.compose import title
from pipelines.alerts.finding import Finding
from pipelines.alerts.incident import Lifecycle
from pipelines.alerts.lifecycle import Timing, advance
from schemas.alerts import alert_id

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


def at(life: Lifecycle, second: int, *found: Finding, over: dict[str, int] | None = None, **timing: float) -> list[str]:
    now = NOW + second * S
    emitted = advance(life, found, wall=now, at=now, recovered=over or {}, timing=Timing(**timing))  # type: ignore[arg-type]
    return [f"{t.state} {t.finding.rule} {t.incident.seq}" for t in emitted]


def test_a_finding_fires_once_after_it_was_held_and_resolves_once() -> None:
    life = Lifecycle()
    assert at(life, 0, finding()) == []
    assert at(life, 2, finding()) == []
    assert at(life, 3, finding()) == ["firing surge_guardrail 0"]
    assert at(life, 9, finding()) == []
    assert at(life, 40, over={"guardrail:pii": NOW + 20 * S}) == ["resolved surge_guardrail 1"]
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
    assert at(life, 40, over={"guardrail:pii": NOW + 20 * S}) == ["resolved surge_guardrail 1"]


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


def test_a_breach_within_the_cooldown_reopens_the_incident_under_its_id_with_the_next_seq() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    incident = life.open["guardrail:pii"]
    assert at(life, 40, over={"guardrail:pii": NOW + 20 * S}) == ["resolved surge_guardrail 1"]
    again = finding(start=NOW + 60 * S, severity="critical")
    assert at(life, 100, again) == []
    assert at(life, 103, again) == ["firing surge_guardrail 2"], "held for 3 s as ever"
    reopened = life.open["guardrail:pii"]
    assert (reopened.id, reopened.finding.start, reopened.fingerprint) == (incident.id, NOW, incident.fingerprint)
    assert reopened.finding.severity == "critical", "the worse of both"
    assert life.closed == {}
    assert at(life, 800, over={"guardrail:pii": NOW + 110 * S}) == ["resolved surge_guardrail 3"]


def test_a_breach_after_the_cooldown_is_another_incident_and_nothing_is_remembered_of_the_first() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    first = life.open["guardrail:pii"].id
    at(life, 40, over={"guardrail:pii": NOW + 20 * S})
    assert at(life, 639) == []
    assert len(life.closed) == 1
    again = finding(start=NOW + 640 * S)
    assert at(life, 640, again) == []
    assert life.closed == {}
    assert at(life, 643, again) == ["firing surge_guardrail 0"]
    assert life.open["guardrail:pii"].id != first


def test_what_took_an_hour_to_prove_may_be_reopened_for_an_hour() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    at(life, 3620, over={"guardrail:pii": NOW + 20 * S})
    again = finding(start=NOW + 7200 * S)
    assert at(life, 7210, again) == []
    assert at(life, 7213, again) == ["firing surge_guardrail 2"]


def test_another_series_of_the_family_is_another_incident_and_rests_for_a_minute() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    at(life, 40, over={"guardrail:pii": NOW + 20 * S})
    other = finding(start=NOW + 45 * S, target='{"app":"bot","feature":"chat"}', series={"app": "bot", "feature": "c"})
    assert at(life, 50, other) == []
    assert at(life, 60, other) == []
    assert at(life, 80, other) == []
    assert at(life, 83, other) == ["firing surge_guardrail 0"]
    assert len(life.closed) == 1


def test_an_open_alert_is_emitted_again_every_half_hour_and_at_last_accepted_as_the_new_normal() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    assert at(life, 1802, finding()) == []
    assert at(life, 1803, finding()) == ["update surge_guardrail 1"]
    assert at(life, 1813, finding()) == []
    assert at(life, 4000, accept_s=3600, update_every_s=1e9) == ["resolved surge_guardrail 2"]
    assert life.closed == {}, "the new normal does not reopen it"
    assert [at(life, second, finding()) for second in (4700, 4710, 20_000)] == [[], [], []]


def test_an_incident_that_has_grown_tenfold_is_emitted_again_sooner_but_not_within_five_minutes() -> None:
    life = Lifecycle()
    at(life, 0, finding())
    at(life, 3, finding())
    incident = life.open["guardrail:pii"]
    incident.emitted_excess, incident.recovery.excess = 20.0, 200.0
    assert at(life, 302, finding()) == []
    assert at(life, 303, finding()) == ["update surge_guardrail 1"]
    incident.recovery.excess = 1999.0
    assert at(life, 1303, finding()) == []
    incident.recovery.excess = 2000.0
    assert at(life, 1304, finding()) == ["update surge_guardrail 2"]


def flapping(
    targets: int, *, on_s: int = 120, off_s: int = 120, hours: int = 12, **timing: float
) -> list[tuple[int, str]]:
    """(second, state) of all alerts of a series that breaches for ``on_s`` and is quiet for ``off_s``.

    As the detectors do: recovered after 30 s below, after 600 s where it was reopened, and one of ``targets`` users at
    fault, in turn.
    """
    life, emitted = Lifecycle(), []
    ends: dict[str, int] = {}
    for second in range(hours * 3600):
        since = second // (on_s + off_s) * (on_s + off_s)
        user = f"u{since // (on_s + off_s) % targets}"
        breached = second - since < on_s
        if breached:
            ends[user] = second + 1
        found = finding(target=user, series={"user": user}, start=NOW + since * S)
        over = {
            family: NOW + end * S
            for family, incident in life.open.items()
            if second - (end := ends[incident.finding.target]) >= (600 if incident.recovery.reopened else 30)
        }
        emitted += [(second, text) for text in at(life, second, *([found] if breached else []), over=over, **timing)]
    return emitted


def busiest_hour(emitted: list[tuple[int, str]], state: str) -> int:
    times = [second for second, text in emitted if text.startswith(state)]
    return max((sum(0 <= other - second < 3600 for other in times) for second in times), default=0)


def test_a_series_that_flaps_all_day_is_one_incident_that_is_reopened_once() -> None:
    emitted = flapping(1)
    assert [text for _, text in emitted if "update" not in text] == [
        "firing surge_guardrail 0",
        "resolved surge_guardrail 1",
        "firing surge_guardrail 2",
    ]
    assert busiest_hour(emitted, "update") == 2


@pytest.mark.parametrize(("on_s", "off_s"), [(120, 610), (20, 700), (900, 640)])
def test_a_series_that_pauses_for_longer_fires_six_times_an_hour_at_most(on_s: int, off_s: int) -> None:
    assert 0 < busiest_hour(flapping(1, on_s=on_s, off_s=off_s), "firing") <= 6


@pytest.mark.parametrize(("on_s", "off_s"), [(120, 120), (20, 40), (5, 31)])
def test_another_culprit_each_time_fires_once_a_minute_at_most(on_s: int, off_s: int) -> None:
    """Other series of the family rest for one minute only: it is another cause, which deserves its own alert."""
    assert 0 < busiest_hour(flapping(1000, on_s=on_s, off_s=off_s), "firing") <= 60
    assert busiest_hour(flapping(1000, on_s=5, off_s=31, hours=1, cooldown_family_s=0.0), "firing") > 60


def test_a_title_is_one_plain_line() -> None:
    assert title(finding(), "firing") == "app bot: guardrail pii in 40.0% of calls, usually 1.0%"
    spend = finding(rule="spike_cost", measure="cost", unit="USD", observed=9.5, expected=0.5, series={"app": "bot"})
    assert title(spend, "resolved") == "over: app bot: cost 9.5 USD, 19.0x the usual"
