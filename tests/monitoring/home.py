"""A home as a running `up` leaves it, with stages that report, and calls that go on landing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.clock import now_us
from pipelines.decode import DuplicateWindow, decode
from pipelines.land.usage import Usage
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records
from schemas.stage_facts import StageFacts, StageState
from schemas.topics import EVENTS
from tailrace.home.layout import Heartbeat, Home
from tailrace.monitor.metrics import StageCollector, exposition
from tailrace.settings.model import MonitoringSettings, Settings
from tailrace.supervisor.stages import STAGES
from warehouse.storage.locks import process_start_time

BOOKS = PriceBooks([default_book()])


def event(number: int, **changes: Any) -> bytes:
    call = {
        **{"v": 1, "type": "call", "id": f"00000000-0000-4000-8000-{number:012d}", "ts": "2026-11-18T10:00:00Z"},
        **{"app": ("support", "search")[number % 2], "provider": "openai", "model": "gpt-4o", "op": "chat"},
        "status": "error" if number % 7 == 0 else "ok",
        "latency": {"total_ms": 200.0 * (number % 9 + 1), "ttft_ms": 30.0 * (number % 5 + 1)},
        "tokens": {"input": 100 + number % 50, "output": 20 + number % 30},
        "guardrails": [{"name": "pii", "action": "redact" if number % 3 == 0 else "pass"}],
        **changes,
    }
    return json.dumps(call).encode()


def decoded(first: int, count: int) -> dict[str, Any]:
    """Tables as land decodes them; every tenth record is no JSON, and one model has no price."""
    values = [
        b"{" if n % 10 == 9 else event(n, **({"model": "mine"} if n % 10 == 4 else {}))
        for n in range(first, first + count)
    ]
    offsets = list(range(first, first + count))
    seen = DuplicateWindow()
    seen.start(0, first)
    now = now_us()
    keys, span = [None] * count, {0: (first, first + count)}
    records = Records(EVENTS, [0] * count, offsets, [now] * count, keys, values, [()] * count, span)
    return dict(decode(records, BOOKS, seen, landed_at=now, epoch=0).tables())


class Living:
    """Every page shows 50 calls more than the one before."""

    def __init__(self, folder: Path) -> None:
        budgets = MonitoringSettings(budgets_usd={"support": 50.0, "search": 0.0001})
        self.settings = Settings(home=folder, monitoring=budgets)
        self.usage, self.next = Usage(), 0
        self._home = Home(folder)
        self.collector = StageCollector(self.settings, more=lambda: {"kafka_up": True})
        self._beats = {stage.name: Heartbeat(self._home, stage.name, now_us) for stage in STAGES}
        self.down: set[str] = set()

    def land(self, count: int = 50) -> None:
        tables = decoded(self.next, count)
        self.next += count
        states = {"detector": ["spike"], "severity": ["warning"], "state": ["firing"]}
        self.usage.add({**tables, "alerts": pa.table(states)})

    def page(self) -> bytes:
        self.land()
        now = now_us()
        common = {
            "lag": 3,
            "position": {"llm.events[0]": self.next},
            "progress": self.next,
            "arrival_time": now - 10**6,
        }
        facts: dict[str, dict[str, Any]] = {
            "land": {"commits": self.next, "retries": 1, "committed_at": now, "usage": self.usage.facts()},
            "drift": {"evidence": [["support", "input", 1.5]]},
            "schedule": {"jobs": [["maintain", now - 10**9, now - 9 * 10**8, "done"], ["prices", now, None, None]]},
        }
        stages = {name: {"restarts": 2, "stalls": 0} for name in self._beats}
        up = {
            "pid": os.getpid(),
            "born": process_start_time(os.getpid()),
            "bootstrap_servers": "x",
            "web": None,
            "stages": stages,
        }
        self._home.write_run("up", up)
        for name, beat in self._beats.items():
            beat(StageFacts.of({**common, **facts.get(name, {})}))
            beat.write(StageState.STOPPED if name in self.down else StageState.RUNNING)
        return exposition(self.collector)
