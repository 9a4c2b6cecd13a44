import itertools

import msgspec

from tailrace.demo.texts import REFUSAL
from tailrace.demo.traffic import APPS, REFUSED_SHARE, SECOND, events, plan
from tailrace_emitter.event import AnyEvent

START = 1_790_000_000 * SECOND


def test_the_same_seed_gives_the_same_calls():
    one = list(events(7, START, START + 60 * SECOND, rate=20))
    assert one == list(events(7, START, START + 60 * SECOND, rate=20))
    assert one != list(events(8, START, START + 60 * SECOND, rate=20))


def test_every_call_passes_the_schema_and_times_ascend():
    calls = list(events(1, START, START + 120 * SECOND, rate=20, incidents=plan(1, START)))
    decoder = msgspec.json.Decoder(AnyEvent)
    assert len({decoder.decode(msgspec.json.encode(c)).id for c in calls}) == len(calls) > 1000
    assert all(a["ts"] <= b["ts"] for a, b in itertools.pairwise(calls))


def test_a_plan_holds_each_incident_once_and_they_do_not_overlap():
    for seed in range(30):
        incidents = plan(seed, START)
        assert {i.kind for i in incidents} == {"cost_spike", "guardrail_surge", "topic_shift"}
        assert all(a.end < b.start for a, b in itertools.pairwise(incidents))


def test_incidents_change_only_what_they_name():
    incidents = plan(3, START)
    spike = next(i for i in incidents if i.kind == "cost_spike")
    surge = next(i for i in incidents if i.kind == "guardrail_surge")
    calls = list(events(3, START, START + 130 * SECOND, rate=20, incidents=incidents))
    during = [c for c in calls if spike.start <= c["ts"] * 1000 < spike.end and c["app"] == spike.app]
    assert sum(c["user"] == spike.value for c in during) > 100
    outside = [c for c in calls if c["app"] == surge.app and not surge.start <= c["ts"] * 1000 < surge.end]
    triggered = [c for c in outside if any(g["name"] == surge.value and g["action"] != "pass" for g in c["guardrails"])]
    assert len(triggered) / len(outside) < 0.05
    assert {c["app"] for c in calls} == {a.name for a in APPS}


def test_each_app_refuses_at_its_own_share():
    calls = [c for c in events(5, START, START + 1200 * SECOND, rate=20) if c["status"] == "ok"]
    for app in APPS:
        own = [c for c in calls if c["app"] == app.name]
        refused = sum(c.get("content", {}).get("output") == REFUSAL for c in own) / len(own)
        assert abs(refused - REFUSED_SHARE[app.name]) < 0.01
