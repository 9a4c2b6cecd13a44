"""What one detector found and what follows from it in another are one alert."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pipelines.alerts.finding import Finding
from pipelines.alerts.grouping import group
from pipelines.alerts.incident import Lifecycle
from pipelines.alerts.lifecycle import Timing, advance

MINUTE = 60_000_000


def finding(detector: str, family: str, measure: str, **changes: object) -> Finding:
    known = {
        "detector": detector,
        "rule": f"{detector}_{measure}",
        "family": family,
        "measure": measure,
        "target": '{"app":"bot"}',
        "series": {"app": "bot"},
        "start": 0,
        "end": 5 * MINUTE,
        "observed": 1.0,
        "expected": 0.1,
        "score": 20.0,
        "unit": "share",
    }
    return Finding(**(known | changes))  # type: ignore[arg-type]


OUTAGE = finding("surge", "errors", "errors", rank=1, calls=100, excess=95.0)
MISSES = finding("cache", "cache", "cache_reads", rank=1, usd_lost=2.0)
RETRIES = finding("spike", "spend", "calls", excess=250.0)
SLOW = finding("latency", "latency", "latency_ms", rank=2)
DEARER = finding("spike", "spend", "cost_per_call", unit="USD a call")

TENANT = {"app": "bot", "tenant": "t1"}
GROWN = finding("per_call", "per_call", "tokens_per_call", unit="tokens/call", series=TENANT, usd_per_hour=1.0)


@pytest.mark.parametrize(
    ("leader", "follower"),
    [
        (OUTAGE, RETRIES),
        (OUTAGE, SLOW),
        (MISSES, DEARER),
        (MISSES, finding("spike", "spend", "cost", excess=2.2)),
        (DEARER, MISSES),
        (GROWN, finding("spike", "spend", "cost", series=TENANT, start=20 * MINUTE)),
        (GROWN, finding("spike", "spend", "tokens", usd_per_hour=2.0)),
        (GROWN, finding("spike", "spend", "cost", usd_per_hour=4.0, start=10 * MINUTE)),
        (finding("spike", "spend", "cost", series=TENANT), GROWN),
        (GROWN, finding("latency", "latency", "ttft_ms", series=TENANT)),
        (MISSES, finding("per_call", "per_call", "cost_per_call")),
    ],
)
def test_what_follows_from_an_open_incident_is_a_part_of_it(leader: Finding, follower: Finding) -> None:
    leaders, _, attached = group([follower], {leader.family: leader})
    assert leaders == []
    assert [f.family for f in attached[leader.family]] == [follower.family]


@pytest.mark.parametrize(
    ("leader", "other"),
    [
        (OUTAGE, finding("spike", "spend", "calls", excess=5000.0)),
        (OUTAGE, finding("spike", "spend", "cost", excess=9.0)),
        (OUTAGE, finding("spike", "spend", "calls", excess=250.0, start=30 * MINUTE)),
        (MISSES, finding("spike", "spend", "cost", excess=20.0)),
        (finding("cache", "cache", "cache_reads"), finding("spike", "spend", "cost", excess=0.5)),
        (SLOW, OUTAGE),
        (GROWN, finding("spike", "spend", "cost", usd_per_hour=20.0)),
        (GROWN, finding("spike", "spend", "cost", usd_per_hour=1.0, start=60 * MINUTE)),
        (GROWN, finding("spike", "spend", "calls", series=TENANT)),
        (GROWN, SLOW),
    ],
)
def test_what_has_another_cause_is_an_alert_of_its_own(leader: Finding, other: Finding) -> None:
    leaders, _, attached = group([other], {leader.family: leader})
    assert [f.family for f in leaders] == [other.family]
    assert attached == {}


def test_found_at_one_moment_the_outage_leads() -> None:
    leaders, following, _ = group([SLOW, RETRIES, OUTAGE], {})
    assert [f.family for f in leaders] == ["errors"]
    assert sorted(following["errors"]) == ["latency", "spend"]
    assert {c["rule"] for c in leaders[0].children} == {"spike_calls", "latency_latency_ms"}


def test_a_rise_per_call_that_is_found_after_its_spike_is_over_is_no_second_alert() -> None:
    user = {"app": "bot", "user": "u-7"}
    spike = finding("spike", "spend", "cost", unit="USD", series=user, usd_per_hour=59.0, end=MINUTE // 2)
    tail = replace(GROWN, usd_per_hour=19.8, start=0, end=2 * MINUTE)
    life, said = Lifecycle(), list[tuple[str, str]]()
    for second in range(0, 1200, 10):
        now = second * 1_000_000
        found = [spike] if second < 30 else [tail] if 90 <= second < 300 else []
        over = {"spend": MINUTE // 2} if second == 60 else {}
        for transition in advance(life, found, wall=now, at=now, recovered=over, timing=Timing()):
            said.append((transition.finding.family, transition.state))
    assert said == [("spend", "firing"), ("spend", "resolved")]
    later = replace(tail, start=6 * MINUTE, end=8 * MINUTE)
    emitted = [
        transition.finding.family
        for now in (1_210_000_000, 1_220_000_000, 1_230_000_000)
        for transition in advance(life, [later], wall=now, at=now, recovered={}, timing=Timing())
    ]
    assert emitted == ["per_call"], "what began after the end is another incident"
