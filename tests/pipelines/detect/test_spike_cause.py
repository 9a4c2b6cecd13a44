"""A spike names who made it, splits the change, and sends an update where the cause is clear only later."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import msgspec

from pipelines.detect.detectors import DETECTORS
from pipelines.detect.detectors.spike import Spike
from pipelines.detect.judge import Judge, judge
from schemas.alerts import Alert, Cause
from tests.pipelines.detect.traffic import HOUR, SECOND, T0, App, Incident, Stream

ONSET = T0 + 20 * SECOND
QUIET = App(rate=1.0, cycle=0.0)


def played(*incidents: Incident, live_s: int, app: App = QUIET) -> list[Alert]:
    stream = Stream(51, apps=(app,), partitions=1, incidents=incidents)
    history = list(stream.records(T0 - HOUR, T0, live=False, batch_s=600))
    return list(judge([*history, *stream.records(T0, T0 + live_s * SECOND, live=True, batch_s=5)]))


def exact(cause: Cause) -> None:
    assert cause.parts
    assert cause.now
    assert cause.before
    parts = [getattr(cause.parts, name) for name in cause.parts.__struct_fields__]
    change = Decimal(str(cause.now.cost_usd)) - Decimal(str(cause.before.cost_usd))
    assert sum(Decimal(str(part)) for part in parts) == change


def test_a_runaway_user_is_named_with_the_parts_of_the_rise() -> None:
    firing = played(Incident(ONSET, ONSET + 60 * SECOND, user="u-77", rate=8.0), live_s=50)[0]
    first = firing.cause[0]
    assert (first.named, first.dimension, first.value) == (True, "user", "u-77")
    assert "calls a minute, next to nothing before" in first.text or "its calls went from" in first.text
    assert [c.named for c in firing.cause[1:]] == [False] * (len(firing.cause) - 1)
    for cause in firing.cause:
        exact(cause)
    assert first.parts
    assert first.now
    assert first.parts.volume > 0.5 * first.now.cost_usd or first.parts.tokens_per_call > 0
    assert firing.evidence.cause_sql.startswith("WITH incident AS")


def test_a_rise_of_everybody_is_broad_and_what_makes_it_later_is_an_update() -> None:
    everybody = Incident(ONSET, ONSET + 90 * SECOND, factor=8)
    loop = Incident(ONSET + 90 * SECOND, ONSET + 600 * SECOND, user="u-77", rate=10.0, context=20.0)
    firing, *later = played(everybody, loop, live_s=300)
    assert firing.series == {"app": "bot"}
    assert (firing.cause[0].value, firing.cause[0].dimension, firing.cause[0].named) == ("broad", "", False)
    assert firing.cause[0].text.startswith("broad: no three values explain 80% of the rise")
    exact(firing.cause[0])
    updates = [a for a in later if a.state == "update"]
    assert updates
    assert {a.id for a in updates} == {firing.id}
    assert all(a.cause[0].named for a in updates), "it stays named"
    assert updates[0].evidence.cause_sql != firing.evidence.cause_sql
    assert (updates[-1].cause[0].dimension, updates[-1].cause[0].value) == ("user", "u-77")
    assert len(updates) <= 3


def test_the_causes_are_the_same_bucket_by_bucket() -> None:
    stream = Stream(52, apps=(QUIET,), partitions=1, incidents=(Incident(ONSET, ONSET + 40 * SECOND, factor=9),))
    records = list(stream.records(T0 - HOUR, T0, live=False, batch_s=600))
    records += stream.records(T0, T0 + 40 * SECOND, live=True, batch_s=5)
    assert list(Judge(together=False).run(records)) == list(judge(records))


def test_an_alert_of_the_version_before_is_still_read() -> None:
    old = b'{"dimension":"user","value":"u1","share":0.9,"text":"user u1: 90% of the rise"}'
    cause = msgspec.json.decode(old, type=Cause)
    assert (cause.named, cause.parts, cause.normal) == (False, None, None)


def test_what_is_worth_an_alert_depends_on_what_the_app_spends() -> None:
    loop = Incident(ONSET, ONSET + 60 * SECOND, user="u-77", rate=8.0, context=1.0)
    spike = next(d for d in DETECTORS if isinstance(d, Spike))
    stream = Stream(53, apps=(QUIET,), partitions=1, incidents=(loop,))
    records = list(stream.records(T0 - HOUR, T0, live=False, batch_s=600))
    records += stream.records(T0, T0 + 60 * SECOND, live=True, batch_s=5)
    cost = [a for a in judge(records, detectors=(spike,)) if a.rule == "spike_cost"]
    assert cost, "about 2.5 USD, and 0.3 USD are worth it"
    strict = replace(spike, share_of_month=0.001)
    assert [a for a in judge(records, detectors=(strict,)) if a.rule in ("spike_cost", "spike_cost_per_call")] == []
