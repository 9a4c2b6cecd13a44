"""What is the case now, from what the supervisor and the stages wrote into the home."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tailrace.home import Home
from tailrace.settings import Settings
from tailrace.stages import STAGES, Stage, wall
from warehouse.errors import without_password
from warehouse.locks import alive

FRESH_S = 30.0
_TROUBLE = frozenset({"held", "waiting", "retrying", "unknown"})
"""What a stage that lives may say of itself when nothing moves: its breaker is open, the lake or Kafka is away, drift
has no model."""


def status(settings: Settings, *, stages: Sequence[Stage] = STAGES) -> dict[str, Any]:
    """Return the document of ``tailrace status --json`` (its keys are in the design)."""
    home = Home(settings.home)
    supervisor = home.read_run("up")
    if supervisor and not alive(supervisor["pid"]):
        supervisor = None
    found = {stage.name: _stage(home, stage, supervisor) for stage in stages}
    bootstrap = settings.kafka.bootstrap_servers or (supervisor["bootstrap_servers"] if supervisor else None)
    return {
        "ready": supervisor is not None and all(s["state"] == "running" for s in found.values()),
        "kafka": {"bootstrap_servers": bootstrap},
        "lake": {
            "catalog": without_password(settings.lake.catalog or str(home.catalog)),
            "data_path": settings.lake.data_path or str(home.data_path),
        },
        "web": {"url": supervisor.get("web") if supervisor else None},
        "stages": found,
    }


def _stage(home: Home, stage: Stage, supervisor: dict[str, Any] | None) -> dict[str, Any]:
    name = stage.name
    said = home.read_run(name)
    known = (supervisor or {}).get("stages", {}).get(name, {})
    if said is None or not alive(said["pid"]):
        state = "stopped" if supervisor is None else "restarting"
        return {
            "state": state,
            "pid": None,
            "lag": None,
            "restarts": known.get("restarts", 0),
            "error": (said or {}).get("error"),
        }
    silent = (wall() - said["at"]) / 1e6 > min(FRESH_S, stage.stall_after_s / 2)
    facts = said["facts"]
    trouble = facts.get("state") if facts.get("state") in _TROUBLE else None
    state = trouble if trouble and said["state"] == "running" else said["state"]
    return {
        "state": "silent" if silent else state,
        "pid": said["pid"],
        "lag": facts.get("lag"),
        "restarts": known.get("restarts", 0),
        "error": said["error"] or (facts.get("error") if trouble else None),
    }
