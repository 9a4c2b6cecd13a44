"""Send one call through everything and report where it is, or which hop failed and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from pipelines.clock import now_us
from pipelines.decode.aliases import suggestion
from pipelines.decode.reasons import CLOCK_SKEW, UNKNOWN_FIELD
from schemas.errors import TailraceError
from schemas.topics import TOPICS
from tailrace import wiring
from tailrace.events import landed
from tailrace.events.publish import publish
from tailrace.home.layout import Home, reported
from tailrace.monitor.status import status
from tailrace.settings.model import Settings
from tailrace.times import distance
from warehouse.query.readonly import ReadOnlyLake

if TYPE_CHECKING:
    from pipelines.kafka import Finding

_UNKNOWN_FIELDS = f"""
WITH recent AS (
    SELECT 'call' AS kind, _flags FROM raw_calls WHERE _landed_at >= now() - INTERVAL 24 HOUR
    UNION ALL
    SELECT 'feedback', _flags FROM raw_feedback WHERE _landed_at >= now() - INTERVAL 24 HOUR
    UNION ALL
    SELECT 'eval', _flags FROM raw_evals WHERE _landed_at >= now() - INTERVAL 24 HOUR
),
flagged AS (SELECT kind, unnest(_flags) AS flag FROM recent WHERE len(_flags) > 0)
SELECT kind, flag, count(*) AS events FROM flagged WHERE starts_with(flag, '{UNKNOWN_FIELD}:')
GROUP BY kind, flag ORDER BY events DESC, flag LIMIT 100
"""
_FAR_CLOCKS = f"""
SELECT count(*) AS events, count(*) FILTER (ts < _kafka_time) AS past,
    max(abs(epoch_us(ts) - epoch_us(_kafka_time))) AS us
FROM (
    SELECT ts, _kafka_time, _flags, _landed_at FROM raw_calls
    UNION ALL SELECT ts, _kafka_time, _flags, _landed_at FROM raw_feedback
    UNION ALL SELECT ts, _kafka_time, _flags, _landed_at FROM raw_evals
)
WHERE _landed_at >= now() - INTERVAL 24 HOUR AND list_contains(_flags, '{CLOCK_SKEW}')
"""
_COSTS = """
SELECT sum(compared_calls)::BIGINT AS compared, sum(differing_calls)::BIGINT AS differing,
    arg_max(concat_ws(' ', app, provider, model), differing_calls) AS most
FROM cost_checks WHERE day >= current_date - 1
"""
_EVENTS = {"call": "calls", "feedback": "feedback events", "eval": "evals"}
MODEL = "gpt-4o-mini"
APP = "tailrace-doctor"


@dataclass(frozen=True)
class Hop:
    """One step of the way, and whether the call took it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def examine(settings: Settings, bootstrap_servers: str, *, event_id: str, timeout_s: float) -> Iterator[Hop]:
    """Yield the hops in order; stops at the first that failed."""
    stages = status(settings)["stages"]
    silent = {name: s for name, s in stages.items() if s["state"] != "running"}
    problems = ", ".join(f"{n} {s['state']}{': ' + s['error'] if s['error'] else ''}" for n, s in silent.items())
    yield Hop("stages", not silent, problems or "all run", "see `tailrace status`, and logs/ in the home")
    yield compared(settings, bootstrap_servers)
    event = {
        "v": 1,
        "type": "call",
        "id": event_id,
        "ts": now_us() // 1000,
        "app": APP,
        "model": MODEL,
        "provider": "openai",
        "latency": {"total_ms": 1.0},
        "tokens": {"input": 100, "output": 10},
    }
    try:
        sent = publish(wiring.kafka(settings, bootstrap_servers), [(event_id.encode(), msgspec.json.encode(event))])
    except TailraceError as error:
        yield Hop("published", False, str(error), "start Kafka, or mend TAILRACE_KAFKA__BOOTSTRAP_SERVERS")
        return
    if 0 not in sent.positions:
        yield Hop(
            "published", False, sent.errors.get(0, "not acknowledged"), "is the topic there? `tailrace topics create`"
        )
        return
    position = sent.positions[0]
    yield Hop("published", True, f"llm.events[{position[0]}]@{position[1]}")
    rows = landed.wait_for(settings, {position}, timeout_s)
    if position not in rows:
        lag = stages["land"]["lag"]
        yield Hop("landed", False, f"not in the lake after {timeout_s:g} s; land's lag is {lag}", "see logs/land.log")
        return
    yield from _landed(settings, rows[position])


def compared(settings: Settings, bootstrap_servers: str) -> Hop:
    """Compare the settings of the topics with what is promised; name those that were repaired at a start."""
    from pipelines.kafka import Action, Admin, SettingsCheck
    from pipelines.kafka.topic_settings import sized

    admin = Admin(wiring.kafka(settings, bootstrap_servers))
    check = SettingsCheck(admin, sized(TOPICS, settings.kafka.partitions))
    try:
        found = [finding for findings in check.compare().values() for finding in findings]
        there = admin.topics()
    except TailraceError as error:
        return Hop("topics", False, str(error), "start Kafka, or correct TAILRACE_KAFKA__BOOTSTRAP_SERVERS")
    missing = [topic.name for topic in TOPICS if topic.name not in there]
    ok = not missing and all(finding.action is Action.REPORT for finding in found)
    lines = [f"{name}: missing" for name in missing] + [_line(finding) for finding in found] + repaired(settings)
    return Hop("topics", ok, "\n".join(lines) or "settings as promised", "`tailrace topics create` changes what it may")


def repaired(settings: Settings) -> list[str]:
    """Return what `up`, `topics create` or a running stage changed in the settings of topics."""
    home, lines = Home(settings.home), []
    for name in ("topics", "land", "meter"):
        report = home.read_run(name) or {}
        lines += [*report.get("repaired", []), *reported(report).repaired]
    return list(dict.fromkeys(lines))


def _line(finding: Finding) -> str:
    from pipelines.kafka import Action

    line = f"{finding.topic}: {finding.setting} is {finding.found}, wanted {finding.wanted}"
    return line if finding.action is Action.REPAIR else f"{line};\n{finding.remedy}"


def _landed(settings: Settings, row: dict[str, Any]) -> Iterator[Hop]:
    if row["table"] == "dead":
        yield Hop(
            "landed", False, f"dead: {row['reason']} {row['detail'] or ''}", "is this land older than the emitter?"
        )
        return
    yield Hop("landed", True, f"row of {row['table']}, app {row['app']}")
    priced = row["cost_usd"] is not None and row["cost_status"] != "partly_priced"
    yield Hop(
        "priced",
        priced,
        f"{row['cost_usd']} USD ({row['cost_status']})",
        "no price for the model, or for a unit: settings, `prices`",
    )
    asked = f"SELECT count(*) AS calls FROM calls WHERE id = '{row['id']}'"
    try:
        with ReadOnlyLake.open(wiring.lake(settings)) as lake:
            found = lake.query(asked).to_pylist()[0]["calls"]
            unknown = lake.query(_UNKNOWN_FIELDS).to_pylist()
            (far,) = lake.query(_FAR_CLOCKS).to_pylist()
            (costs,) = lake.query(_COSTS).to_pylist()
    except TailraceError as error:
        yield Hop("queryable", False, str(error), "`tailrace verify` says more")
        return
    yield Hop("queryable", found == 1, f"{asked} -> {found}", "the view `calls` hides it: is its id there twice?")
    yield unknown_fields(unknown)
    yield far_clocks(far)
    yield differing_costs(costs)


def differing_costs(row: dict[str, Any]) -> Hop:
    """Return the share of reported costs that differ from the computed ones today and yesterday; that fails no hop.

    Args:
        row: calls that have both costs; how many of them differ by more than 1 %; app, provider and model of most.
    """
    compared, differing = row["compared"] or 0, row["differing"] or 0
    if not compared:
        return Hop("costs", True, "no call of today or yesterday has a reported cost to compare with")
    problems = f"{differing:,} of {compared:,} reported costs of today and yesterday ({differing / compared:.1%})"
    most = f', most of {row["most"]}: `tailrace sql "FROM cost_checks"`' if differing else ""
    return Hop("costs", True, f"{problems} are more than 1 % off the computed ones{most}")


def far_clocks(row: dict[str, Any]) -> Hop:
    """Return how many events of the last day had an implausible time; that fails no check.

    Args:
        row: events; how many of them are in the past; the greatest distance from their arrival, µs.
    """
    if not row["events"]:
        return Hop("clocks", True, "no far clock in what landed in the last 24 h")
    past = f"; {row['past']:,} lie in the past: send such with `tailrace emit --history`" if row["past"] else ""
    return Hop(
        "clocks",
        True,
        f"{row['events']:,} events that landed in the last 24 h have a time up to {distance(row['us'])} from their "
        f"arrival and count on the day of arrival{past}",
    )


def unknown_fields(rows: list[dict[str, Any]]) -> Hop:
    """Return how many events of the last day had a field under a wrong name; that fails no hop.

    Args:
        rows: kind of event, flag, events; the most frequent first.
    """
    if not rows:
        return Hop("fields", True, "no unknown field in what landed in the last 24 h")
    named = ", ".join(
        f"{suggestion(row['flag'], row['kind'])}: {row['events']:,} {_EVENTS[row['kind']]}" for row in rows[:5]
    )
    more = f", and {len(rows) - 5} more names" if len(rows) > 5 else ""
    return Hop("fields", True, f"unknown fields in what landed in the last 24 h: {named}{more}")
