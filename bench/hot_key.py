"""How long everybody else waits while one key makes nearly all events: row 49 of the fault matrix.

Three arms take turns, each with topics and a lake of its own on one broker, land and meter running, at one rate.
even: twenty teams alike. team: one team makes 95 % of the calls, under traces of their own, as apps do. trace: all of
those under one trace id, so that they stand on one partition of four. Delay: from the broker's acknowledgement until
the ledger is past the event, looked at every 20 ms in the catalog's file; of the calls that are not the hot team's.
The last line is {"rate", "even_p99_s", "team_p99_s", "trace_p99_s", "team_ratio", "trace_ratio", "spread"}; aim: ratios
under 2. QUICK=1 for the short form.
"""

from __future__ import annotations

import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from _report import QUICK, REPO, machine, report, spread

sys.path.insert(0, str(REPO / "tests" / "faults"))

import confluent_kafka as ck
import msgspec
from fault_harness.scene import Scene
from fault_harness.traffic import call

from schemas.topics import EVENTS
from tailrace.broker import Broker

RATE = 1_500
SECONDS = 8.0 if QUICK else 20.0
ROUNDS = 2 if QUICK else 5
PARTITIONS = 4
HOT = 0.95
ARMS = ("even", "team", "trace")


def events(arm: str, rng: random.Random) -> Any:
    """Yield (event, key, whether it is the hot team's)."""
    while True:
        hot = arm != "even" and rng.random() < HOT
        trace = "0" * 32 if hot and arm == "trace" else f"{rng.getrandbits(128):032x}"
        team = "hot" if hot else f"t{rng.randrange(20)}"
        yield call(rng, team=team, trace_id=trace), trace.encode(), hot


def delays(scene: Scene, arm: str, seed: int) -> list[float]:
    """Send at the rate; return how long the calls of the others took to land."""
    passed: dict[int, list[tuple[int, float]]] = {p: [] for p in range(PARTITIONS)}
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(scene, passed, done), daemon=True)
    watcher.start()
    acknowledged: list[tuple[int, int, float]] = []
    producer = ck.Producer({"bootstrap.servers": scene.kafka.bootstrap_servers, "linger.ms": 5, "acks": "all"})
    stream, began = events(arm, random.Random(seed)), time.monotonic()
    for n in range(int(RATE * SECONDS)):
        if (wait := began + n / RATE - time.monotonic()) > 0.002:
            producer.poll(0)
            time.sleep(wait)
        event, key, hot = next(stream)

        def noted(error: Any, message: Any, hot: bool = hot) -> None:
            if error is None and not hot:
                acknowledged.append((message.partition(), message.offset(), time.monotonic()))

        producer.produce(scene.kafka.prefix + EVENTS, msgspec.json.encode(event), key, on_delivery=noted)
        producer.poll(0)
    assert producer.flush(30) == 0
    deadline = time.monotonic() + 60
    while (late := [a for a in acknowledged if a[1] >= _upto(passed[a[0]])]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not late, f"{len(late)} calls did not land in a minute"
    done.set()
    watcher.join()
    return [_landed(passed[p], offset) - at for p, offset, at in acknowledged]


def _watch(scene: Scene, passed: dict[int, list[tuple[int, float]]], done: threading.Event) -> None:
    while not done.wait(0.02):
        at = time.monotonic()
        for partition, (_, upto) in scene.lake.ledger().items():
            if upto > _upto(passed[partition]):
                passed[partition].append((upto, at))


def _upto(seen: list[tuple[int, float]]) -> int:
    return seen[-1][0] if seen else 0


def _landed(seen: list[tuple[int, float]], offset: int) -> float:
    return next(at for upto, at in seen if upto > offset)


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def run(folder: Path) -> dict[str, Any]:
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with Broker(folder / "broker", heap_mb=512) as broker:
        for n in range(ROUNDS):
            for arm in ARMS if n % 2 else ARMS[::-1]:
                scene = Scene(broker.bootstrap, folder / f"{arm}{n}", partitions=PARTITIONS)
                try:
                    for name in ("land", "meter"):
                        scene.start(name)
                    scene.traffic.good(100)
                    scene.settle()
                    found[arm].append(p99(delays(scene, arm, n)))
                finally:
                    scene.close()
                sys.stdout.write(f"round {n + 1}/{ROUNDS} {arm}: p99 {found[arm][-1]:.2f} s\n")
                sys.stdout.flush()
    middle = {arm: statistics.median(values) for arm, values in found.items()}
    return {
        "rate": RATE,
        **{f"{arm}_p99_s": round(value, 3) for arm, value in middle.items()},
        "team_ratio": round(middle["team"] / middle["even"], 2),
        "trace_ratio": round(middle["trace"] / middle["even"], 2),
        "spread": spread([a / b for a, b in zip(found["trace"], found["even"], strict=True)], 2),
    }


def main() -> None:
    print(machine("confluent-kafka", "duckdb"), flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tailrace-hot-key-"))
    try:
        report(run(folder), "confluent-kafka", "duckdb")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
