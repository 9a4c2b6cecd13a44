"""Send one call through everything and say where it is, or which hop failed and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.errors import TailraceError
from tailrace import landed, wiring
from tailrace.publish import publish
from tailrace.settings import Settings
from tailrace.stages import wall
from tailrace.status import status
from warehouse.readonly import ReadOnlyLake

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
    told = ", ".join(f"{n} {s['state']}{': ' + s['error'] if s['error'] else ''}" for n, s in silent.items())
    yield Hop("stages", not silent, told or "all run", "see `tailrace status`, and logs/ in the home")
    event = {
        "v": 1,
        "type": "call",
        "id": event_id,
        "ts": wall() // 1000,
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


def _landed(settings: Settings, row: dict[str, Any]) -> Iterator[Hop]:
    if row["table"] == "dead":
        yield Hop(
            "landed", False, f"dead: {row['reason']} {row['detail'] or ''}", "is this land older than the emitter?"
        )
        return
    yield Hop("landed", True, f"row of {row['table']}, app {row['app']}")
    priced = row["cost_usd"] is not None
    yield Hop(
        "priced", priced, f"{row['cost_usd']} USD ({row['cost_status']})", "no price for the model: settings, `prices`"
    )
    asked = f"SELECT count(*) AS calls FROM calls WHERE id = '{row['id']}'"
    try:
        with ReadOnlyLake.open(wiring.lake(settings)) as lake:
            found = lake.query(asked).to_pylist()[0]["calls"]
    except TailraceError as error:
        yield Hop("queryable", False, str(error), "`tailrace verify` says more")
        return
    yield Hop("queryable", found == 1, f"{asked} -> {found}", "the view `calls` hides it: is its id there twice?")
