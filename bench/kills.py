"""Random kill -9 on land and meter under load; then lost, doubled and cost are counted from the raw Parquet files.

    python bench/kills.py [KILLS] [EVENTS] [SEED]      (default 200 and 5,000,000; QUICK=1: 20 and 300,000)

A third of land's kills falls inside a COMMIT: strace ends the process at a chosen write or fsync of the catalog. Others
fall at named points of the code, the rest at random moments. One event in a hundred is sent twice, one in two hundred
is bad. The last line is {"kills", "events", "lost", "doubled", "cost_exact", ...}.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from decimal import Decimal
from pathlib import Path

import confluent_kafka as ck
from _report import QUICK, REPO, report

sys.path.insert(0, str(REPO / "tests" / "faults"))

from fault_harness import invariants
from fault_harness.process import Process, killer, wait_until
from fault_harness.scene import Scene

from schemas.topics import EVENTS
from tailrace.broker import Broker

TEMPLATE = (
    b'{"v":1,"type":"call","id":"00000000-0000-4000-8000-%012x","ts":%d,"app":"%s","model":"fault-model","user":"u%d",'
    b'"team":"t%d","status":"ok","tokens":{"input":%d,"output":%d},"latency":{"total_ms":%d},"content":{"mode":'
    b'"redacted","input":[{"role":"user","text":"where is my order %d, please?"}],"output":"it comes on Tuesday"}}'
)
POINTS = {
    "land": ("after_poll", "before_insert", "after_insert", "before_commit", "after_commit"),
    "meter": ("before_produce", "before_commit", "after_commit"),
}
ASSIGNED = {"land": "land_assigned", "meter": "partitions_assigned"}
CALLS = (("write", "-wal", 24), ("fsync", "-wal", 2), ("write", "", 12), ("fsync", "", 1))


class Load:
    """Events of known ids and cost, sent in pieces; ``sent`` counts what the brokers acknowledged."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.good = self.again = self.bad = 0
        self.tenth_micros = 0
        """The reference sum, in 1e-7 USD: input at 2.5, output at 10 USD a million."""
        self._producer = ck.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.messages": 200_000,
                "log_level": 0,
            }
        )

    def send(self, count: int) -> None:
        """Send ``count`` new ids, and the doubles and bad events that belong to them; wait for all of them."""
        now = int(time.time() * 1000)
        for i in range(self.good, self.good + count):
            tokens = (i % 3989 + 1, i % 887)
            app = b"shop" if i % 3 else b"desk"
            value = TEMPLATE % (i, now, app, i % 997, i % 7, *tokens, i % 5000, i)
            key = b"%d" % i
            self._put(value, key)
            self.tenth_micros += 25 * tokens[0] + 100 * tokens[1]
            if i % 100 == 7:
                self._put(value, key)
                self.again += 1
            if i % 200 == 11:
                self._put(value[:-1], key)
                self.bad += 1
        self.good += count
        left = self._producer.flush(120)
        assert not left, f"{left} events were not acknowledged"

    @property
    def sent(self) -> int:
        """Everything that was acknowledged."""
        return self.good + self.again + self.bad

    @property
    def usd(self) -> Decimal:
        """What the good ones cost."""
        return Decimal(self.tenth_micros) / 10_000_000

    def _put(self, value: bytes, key: bytes) -> None:
        while True:
            try:
                self._producer.produce(self.topic, value, key)
                return
            except BufferError:
                self._producer.poll(0.05)


def kill_once(scene: Scene, name: str, running: dict[str, Process], rng: random.Random) -> str:
    """Kill the stage ``name`` at a random moment of a random kind, start it again, return the kind."""
    kind = rng.choice(("commit", "point", "moment") if name == "land" else ("point", "moment"))
    if kind == "point":
        running[name].kill()
        plan = f"{name}.{rng.choice(POINTS[name])}:kill:{rng.randint(1, 4)}"
        running[name] = scene.start(name, fault=plan)
        running[name].ended(120)
    else:
        stage = running[name]
        stage.says(ASSIGNED[name], 120)
        call, file, most = rng.choice(CALLS)
        where = f"{scene.catalog}{file}"
        inside = killer(stage, call, where, rng.randint(1, most)) if kind == "commit" else nullcontext()
        with inside:
            if kind == "commit":
                try:
                    stage.ended(20)
                except AssertionError:  # nothing left to commit; then any moment will do
                    kind = "moment"
            else:
                time.sleep(rng.uniform(0, 1.5))
        stage.kill()
    running[name] = scene.start(name)
    scene.kills += 1
    return kind


def run(kills: int, events: int, seed: int) -> dict[str, object]:
    """Return the figures."""
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="tailrace-kills-"))
    began = time.monotonic()
    try:
        with Broker(folder / "broker", heap_mb=768) as broker:
            scene = Scene(broker.bootstrap, folder / "home", partitions=4)
            load = Load(broker.bootstrap, scene.kafka.prefix + EVENTS)
            running = {name: scene.start(name) for name in ("land", "meter")}
            kinds: dict[str, int] = {}
            feeding = threading.Thread(target=_feed, args=(load, events, kills, scene), daemon=True)
            feeding.start()
            while scene.kills < kills:
                name = rng.choices(("land", "meter"), (3, 2))[0]
                kind = f"{name} {kill_once(scene, name, running, rng)}"
                kinds[kind] = kinds.get(kind, 0) + 1
                _say(f"{scene.kills}/{kills} kills, {load.sent:,} events sent, last: {kind}")
            feeding.join()
            wait_until(lambda: landed_upto(scene) >= load.sent, 900, "all has landed", scene.tails)
            wait_until(lambda: invariants.rolled_up(scene.lake)[0] >= load.good, 300, "all is in rollups", scene.tails)
            figures = count(scene, load)
            for process in running.values():
                process.terminate()
            scene.verified()
            scene.close()
            minutes = round((time.monotonic() - began) / 60, 1)
            return {"kills": kills, **figures, "kinds": kinds, "minutes": minutes, "seed": seed}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _feed(load: Load, events: int, kills: int, scene: Scene) -> None:
    """Send in pieces, about as fast as kills are done."""
    pieces = min(kills, 50)
    while load.good < events:
        while load.good / events > (scene.kills + 1.5 * kills / pieces) / kills:
            time.sleep(0.05)
        load.send(min(events // pieces + 1, events - load.good))


def landed_upto(scene: Scene) -> int:
    """Positions that the ledger says have landed."""
    return sum(upto - start for start, upto in scene.lake.ledger().values())


def count(scene: Scene, load: Load) -> dict[str, object]:
    """Count from the raw files alone."""
    lake = scene.lake
    rows, at, ids, kept, cost = lake.rows(
        "raw_calls",
        "count(*), count(DISTINCT (_partition, _offset)), count(DISTINCT id), "
        "count(*) FILTER (NOT coalesce(_dup, false)), sum(cost_usd) FILTER (NOT coalesce(_dup, false))",
    )[0]
    dead, dead_at = lake.rows("dead", "count(*), count(DISTINCT (_partition, _offset))")[0]
    live_calls, live_cost = invariants.rolled_up(lake)
    return {
        "events": load.sent,
        "lost": (load.good - ids) + max(0, load.sent - at - dead_at),
        "doubled": (rows - at) + (dead - dead_at) + (kept - load.good),
        "cost_exact": cost == load.usd,
        "cost_usd": str(cost),
        "live_calls_equal": live_calls == load.good,
        "live_cost_exact": live_cost == load.usd,
        "orphans": len(lake.orphans()),
    }


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    arguments = [int(a.replace("_", "")) for a in sys.argv[1:]]
    default = (20, 300_000) if QUICK else (200, 5_000_000)
    how_many = (*arguments[:2], *default[len(arguments) :])[:2]
    report(run(*how_many, arguments[2] if len(arguments) > 2 else 1), "tailrace", "duckdb", "confluent-kafka")
