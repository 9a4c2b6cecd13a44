"""Random kill -9 on land, meter, detect and notify under load; then what was lost, doubled or missed is counted.

    python bench/kills.py [KILLS] [EVENTS] [SEED]      (default 200 and 5,000,000; QUICK=1: 20 and 300,000)

Rows and cost are counted from the raw Parquet files. A third of land's kills falls inside a COMMIT: strace ends the
process at a chosen write or fsync of the catalog; a third of meter's at one of its messages to the broker, those of a
transaction among them; a third of notify's between a request and its answer. Others fall at named points of the code,
the rest at random moments. One event in a hundred is sent twice, one in two hundred is bad. Beside the bulk steady
apps call ten times a second, and now and then one of them becomes ten times as dear: the alerts must be those that
detect gives when it judges the landed rollups again without a break, each accepted by a receiver that refuses one
request in five. The last line is {"kills", "events", "lost", "doubled", "cost_exact", "alerts_missed", ...}.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

from _report import QUICK, REPO, report

sys.path.insert(0, str(REPO / "tests" / "faults"))

from fault_harness import alerts, invariants
from fault_harness.cast import Cast
from fault_harness.load import Bulk, Incident, Steady, planned
from fault_harness.process import wait_until
from fault_harness.receiver import Receiver
from fault_harness.rest import rest
from fault_harness.scene import Scene

from schemas.topics import EVENTS
from tailrace.broker import Broker

WEIGHTS = {"land": 3, "meter": 2, "detect": 1, "notify": 1}
SPAN_S = 60.0 if QUICK else 1950.0
"""Kills and incidents are spread over so long."""
TAIL_S = 50.0
"""After the last incident, for it to be over."""
APPS, INCIDENTS = (3, 3) if QUICK else (9, 18)


def run(kills: int, events: int, seed: int) -> dict[str, object]:
    """Return the figures."""
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="tailrace-kills-"))
    began = time.monotonic()
    receiver = Receiver(refuse=0.2, seed=seed)
    try:
        with Broker(folder / "broker", heap_mb=768) as broker:
            scene = Scene(broker.bootstrap, folder / "home", partitions=4, settings=receiver.settings)
            try:
                figures = _play(scene, receiver, rng, (kills, events))
            finally:
                scene.close()
            minutes = round((time.monotonic() - began) / 60, 1)
            return {**figures, "minutes": minutes, "seed": seed}
    except BaseException:
        shutil.copytree(folder / "home", Path(tempfile.gettempdir()) / f"{folder.name}-failed", dirs_exist_ok=True)
        raise
    finally:
        receiver.close()
        shutil.rmtree(folder, ignore_errors=True)


def _play(scene: Scene, receiver: Receiver, rng: random.Random, size: tuple[int, int]) -> dict[str, object]:
    kills, events = size
    where = (scene.settings["TAILRACE_KAFKA__BOOTSTRAP_SERVERS"], scene.kafka.prefix + EVENTS)
    bulk = Bulk(*where)
    incidents = planned(INCIDENTS, APPS, SPAN_S, rng)
    steady = Steady(*where, apps=APPS, incidents=incidents, seed=rng.randrange(1000))
    cast = Cast(scene, receiver, rng)
    for name in WEIGHTS:
        cast.start(name)
    steady.history()
    steady.start()
    feeding = threading.Thread(target=_feed, args=(bulk, events, kills, scene), daemon=True)
    feeding.start()
    while scene.kills < kills:
        while time.time() < steady.began + SPAN_S * scene.kills / kills:
            cast.revive()
            time.sleep(0.2)
        name = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        last = f"{name} {cast.kill(name)}"
        cast.revive()
        sent = bulk.sums.sent + steady.sums.sent
        _say(f"{scene.kills}/{kills} kills, {sent:,} events sent, {len(receiver.accepted)} told, last: {last}")
    feeding.join()
    cast.disarm()
    over = max(i.start_s + i.length_s for i in incidents) + TAIL_S
    time.sleep(max(0.0, steady.began + over - time.time()))
    steady.end()
    sums = bulk.sums + steady.sums
    _say("all is sent")
    wait_until(lambda: landed_upto(scene) >= sums.sent, 900, "all has landed", scene.tails)
    wait_until(lambda: invariants.rolled_up(scene.lake)[0] >= sums.good, 300, "all is in rollups", scene.tails)
    rest(scene, cast.running)
    for name, stage in cast.running.items():
        if name != "meter":
            code = stage.terminate()
            assert code == 0, f"{name} ended with {code} when asked to end\n{stage.tail()}"
    scene.verified()
    figures = count(scene, bulk, steady)
    return {
        "kills": scene.kills,
        **figures,
        **judge(scene, receiver, steady),
        "kinds": dict(sorted(cast.kinds.items())),
    }


def _feed(bulk: Bulk, events: int, kills: int, scene: Scene) -> None:
    """Send in pieces, about as fast as kills are done."""
    pieces = min(kills, 50)
    while bulk.sums.good < events:
        while bulk.sums.good / events > (scene.kills + 1.5 * kills / pieces) / kills:
            time.sleep(0.05)
        bulk.send(min(events // pieces + 1, events - bulk.sums.good))


def landed_upto(scene: Scene) -> int:
    """Positions that the ledger says have landed."""
    return sum(upto - start for start, upto in scene.lake.ledger().values())


def count(scene: Scene, bulk: Bulk, steady: Steady) -> dict[str, object]:
    """Count from the raw files alone."""
    lake, sums = scene.lake, bulk.sums + steady.sums
    rows, at, ids, kept, cost = lake.rows(
        "raw_calls",
        "count(*), count(DISTINCT (_partition, _offset)), count(DISTINCT id), "
        "count(*) FILTER (NOT coalesce(_dup, false)), sum(cost_usd) FILTER (NOT coalesce(_dup, false))",
    )[0]
    dead, dead_at = lake.rows("dead", "count(*), count(DISTINCT (_partition, _offset))")[0]
    live_calls, live_cost = invariants.rolled_up(lake)
    return {
        "events": sums.sent,
        "lost": (sums.good - ids) + max(0, sums.sent - at - dead_at),
        "doubled": (rows - at) + (dead - dead_at) + (kept - sums.good),
        "cost_exact": cost == sums.usd,
        "cost_usd": str(cost),
        "live_calls_equal": live_calls == sums.good,
        "live_cost_exact": live_cost == sums.usd,
        "orphans": len(lake.orphans()),
    }


def judge(scene: Scene, receiver: Receiver, steady: Steady) -> dict[str, object]:
    """Judge all rollups again, and hold it against what was told."""
    told = alerts.compare(scene.lake, receiver)
    fired = [a for a in told.expected.values() if a.state == "firing"]
    heard = [a for a in fired if (a.id, a.seq) not in told.missing | told.unheard]
    spans = [(a.series.get("app"), _time(a.window.start), _time(a.window.end)) for a in heard]

    def found(incident: Incident) -> bool:
        start, end = steady.began + incident.start_s, steady.began + incident.start_s + incident.length_s
        return any(app == incident.app and a <= end and b >= start for app, a, b in spans)

    return {
        "alerts_expected": len(told.expected),
        "alerts_fired": len(fired),
        "alerts_missed": told.missed,
        "alerts_doubled": told.doubled,
        "alerts_altered": len(told.altered),
        "repeated": told.repeated,
        "redelivered": told.redelivered,
        "refused": receiver.refused,
        "incidents": len(steady.incidents),
        "incidents_alerted": sum(map(found, steady.incidents)),
    }


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    arguments = [int(a.replace("_", "")) for a in sys.argv[1:]]
    default = (20, 300_000) if QUICK else (200, 5_000_000)
    kills, events, seed = (*arguments[:3], *(*default, 1)[len(arguments) :])
    found = run(kills, events, seed)
    report(found, "tailrace", "duckdb", "confluent-kafka", "faust-streaming")
    wrong = ("lost", "doubled", "alerts_missed", "alerts_doubled", "alerts_altered")
    exact = ("cost_exact", "live_calls_equal", "live_cost_exact")
    sys.exit(any(found[w] for w in wrong) or not all(found[e] for e in exact))
