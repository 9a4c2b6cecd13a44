"""Make the small home of a release that later versions must open: lake, topics and state of a few minutes of calls.

Usage: python scripts/make_home_fixture.py tests/fixtures/home-0.1.0.tar.gz
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import msgspec

from pipelines.clock import now_us
from tailrace import wiring
from tailrace.demo.traffic import SECOND, events
from tailrace.events.publish import publish
from tailrace.events.replay import key_of
from tailrace.monitor.status import status
from tailrace.settings.model import load
from tailrace.supervisor.up import running
from warehouse.query.readonly import ReadOnlyLake

CALLS_S = 60
TICKS = 100
LEFT_OUT = ("logs", "run", "kafka/broker.log", "kafka/pid", "kafka/port", "kafka/lock")


def main(target: Path) -> None:
    """Run everything on a fresh home for a moment, stop it, pack it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        settings = load(home)
        with running(settings) as (supervisor, _):
            now = now_us()
            calls = [msgspec.json.encode(c) for c in events(5, now - CALLS_S * SECOND, now, rate=5)]
            lines = [(key_of(msgspec.json.decode(c)), c) for c in calls] + [(b"", b"not json")]
            publish(wiring.kafka(settings, supervisor.bootstrap_servers), lines)
            still = 0
            while still < 10:  # five seconds in a row with nothing but ticks to read
                supervisor.look()
                time.sleep(0.5)
                found = status(settings)
                calm = found["ready"] and all((s["lag"] or 0) < TICKS for s in found["stages"].values())
                still = still + 1 if calm else 0
        with ReadOnlyLake.open(wiring.lake(settings)) as lake:
            counts = lake.query(
                "SELECT (SELECT count(*) FROM calls) AS calls, (SELECT sum(cost_usd) FROM calls) AS cost_usd, "
                "(SELECT count(*) FROM dead) AS dead, (SELECT sum(calls) FROM rollups WHERE dims = 'app') AS metered"
            ).to_pylist()[0]
        (home / "expected.json").write_text(json.dumps({k: str(v) for k, v in counts.items()}))
        target.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(target, "w:gz") as tar:
            tar.add(home, "home", filter=lambda f: None if f.name.removeprefix("home/") in LEFT_OUT else f)
        print(f"{target}: {target.stat().st_size:,} bytes, {counts}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
