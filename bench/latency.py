"""How fresh: from produced to queryable, from the window's last event to the webhook, from a step to its alert.

The whole of ``tailrace up`` runs on this machine, broker included, with a lake, a model and a webhook receiver.
rows: at 10, 1,000 and 10,000 calls a second, from ``produce`` to the first moment at which a reader that polls the
lake finds the row; at 1,000 a second again while maintain runs again and again. onset: an app at 10 calls/s whose
calls become ten times as dear at once; from the first dear event to the HTTP request; the same with the stages on the
way killed (SIGKILL) one by one, each at a random moment between the step and its alert. changes: the same for a cost
that is ten or three times as high, errors of 0.5 that become 30 percent and a guardrail of 1 that blocks 10 percent,
in streams of 10 calls a second for each app, and of 1,000. alert: from the last event that the alert's ``observed``
counts to the HTTP request.
Run: ``make bench-latency``; ``QUICK=1`` for the short form. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import numpy as np
from _onset import Calls, onset_to_alert, producer_of, quantile, with_kills
from _report import QUICK, machine, report
from _up import Up

from schemas.topics import EVENTS
from tailrace.demo.receiver import Receiver, listening
from warehouse.storage.connect import LakeConfig, connect

DISTRIBUTIONS = ("confluent-kafka", "duckdb", "faust-streaming", "sentence-transformers")
RATES = (10, 1_000, 10_000)
MAINTAINED_RATE = 1_000
ROWS_S = 12 if QUICK else 60
CHANGES = {10: (10.0, 2 if QUICK else 10), 1_000: (250.0, 1)}
"""Calls a second of a stream -> calls a second of an app, and apps of each kind of change, one after the other.

At 10 each app has 10 calls a second; at 1,000 four apps have 250 each, so that 45 minutes of history are 2.7 million
calls and no more.
"""
PARTS = ("onset", "changes", "rows")


def paced(bootstrap: str, rate: int, seconds: float, file: Path) -> None:
    """A process of its own: produce at a steady rate to known partitions; write (partition, offset, time)."""
    producer, calls = producer_of(bootstrap), Calls("fresh", rate, words=55)
    partitions = sorted(producer.list_topics(EVENTS, 20).topics[EVENTS].partitions)
    began = time.time()
    at: dict[int, deque[float]] = {p: deque() for p in partitions}
    seen: list[tuple[int, int, float]] = []

    def noted(error: ck.KafkaError | None, message: ck.Message) -> None:
        assert error is None, error
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        seen.append((partition, offset, at[partition].popleft()))

    for i in range(int(rate * seconds)):
        wait = began + i / rate - time.time()
        if wait > 0.001:
            producer.poll(0)
            time.sleep(wait)
        partition, now = partitions[i % len(partitions)], time.time()
        at[partition].append(now)
        value, _ = calls.call(int(now * 1000))
        producer.produce(EVENTS, value, partition=partition, on_delivery=noted)
        if i % 64 == 0:
            producer.poll(0)
    assert producer.flush(60) == 0
    np.save(file, np.array(seen))


@contextlib.contextmanager
def maintaining(up: Up) -> Iterator[list[int]]:
    """Run maintain again and again for as long as the block lasts; yields the exit codes so far."""
    command = [sys.executable, "-m", "tailrace", "job", "run", "maintain"]
    stop, codes = threading.Event(), list[int]()

    def again() -> None:
        while not stop.is_set():
            quiet = subprocess.DEVNULL
            codes.append(
                subprocess.run(command, env=up.environment, stdout=quiet, stderr=quiet, check=False).returncode
            )

    worker = threading.Thread(target=again)
    worker.start()
    try:
        yield codes
    finally:
        stop.set()
        worker.join()


def rows(up: Up, bootstrap: str, lake: LakeConfig, rate: int, folder: Path, about: str = "") -> dict[str, Any]:
    """From ``produce`` to the moment a reader of the lake finds the row."""
    file = folder / f"{rate}.npy"
    command = [sys.executable, __file__, "--paced", str(rate), "--bootstrap", bootstrap, "--file", str(file)]
    child = subprocess.Popen(command)
    reader = connect(lake, read_only=True)
    ask = "SELECT \"partition\", max(next_offset) FROM ledger WHERE topic = 'llm.events' GROUP BY 1"
    looks: list[tuple[float, dict[int, int]]] = []
    wanted: dict[int, int] | None = None
    deadline = time.monotonic() + ROWS_S + 240
    while time.monotonic() < deadline:
        # the ledger moves in the transaction that lands the rows: who sees the one sees the other
        seen = dict(reader.execute(ask).fetchall())
        looks.append((time.time(), seen))
        if wanted is None and child.poll() is not None:
            assert child.returncode == 0
            sent = np.load(file)
            wanted = {int(p): int(sent[sent[:, 0] == p, 1].max()) + 1 for p in np.unique(sent[:, 0])}
        if wanted is not None and all(seen.get(p, 0) >= n for p, n in wanted.items()):
            break
        time.sleep(0.03)
    else:
        raise SystemExit(f"at {rate}/s land did not follow: {up.status()['stages']}")
    (there,) = reader.execute("SELECT count(*) FROM raw_calls WHERE app = 'fresh'").fetchone() or (0,)
    reader.close()
    took = []
    for p in wanted or {}:
        mine = sent[sent[:, 0] == p]
        reached = np.array([seen.get(p, 0) for _, seen in looks])
        first = np.searchsorted(reached, mine[:, 1], side="right")
        took.append(np.array([at for at, _ in looks])[first] - mine[:, 2])
    all_of_them = np.concatenate(took)
    assert there >= len(all_of_them)
    result = {"p50": quantile(all_of_them, 0.5), "p99": quantile(all_of_them, 0.99), "max": quantile(all_of_them, 1.0)}
    print(f"{rate:>6,} a second: {len(all_of_them):,} rows queryable after {result} {about}", flush=True)
    return {f"row_p50_s_at_{rate}{about}": result["p50"], f"row_p99_s_at_{rate}{about}": result["p99"]}


def freshness(receiver: Receiver, parts: Sequence[str]) -> dict[str, Any]:
    """Rows and tenfold costs on one machine."""
    found: dict[str, Any] = {}
    with running(receiver) as (up, bootstrap, lake, folder):
        if "onset" in parts:
            found |= with_kills(up, bootstrap, receiver)
        if "rows" in parts:
            for rate in RATES:
                found |= rows(up, bootstrap, lake, rate, folder)
                up.caught_up()
            with maintaining(up) as codes:
                found |= rows(up, bootstrap, lake, MAINTAINED_RATE, folder, "_while_maintain_runs")
            found |= {"maintain_runs": len(codes), "maintain_ok": not any(codes), "rate": RATES[1]}
            found |= {f"row_{q}_s": found[f"row_{q}_s_at_{RATES[1]}"] for q in ("p50", "p99")}
    return found


@contextlib.contextmanager
def running(receiver: Receiver) -> Iterator[tuple[Up, str, LakeConfig, Path]]:
    """Run ``tailrace up`` on a new home for the length of the block; its brokers, its lake and a folder for files."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        up = Up(home, receiver)
        try:
            status = up.ready()
            lake = LakeConfig(status["lake"]["catalog"], status["lake"]["data_path"])
            yield up, status["kafka"]["bootstrap_servers"], lake, Path(folder)
        finally:
            up.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paced", type=int, help=argparse.SUPPRESS)
    for name in ("bootstrap", "file"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}, divided by commas")
    arguments = parser.parse_args()
    if unknown := set(arguments.only.split(",")) - set(PARTS):
        parser.error(f"--only: no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if arguments.paced:
        paced(arguments.bootstrap, arguments.paced, ROWS_S, Path(arguments.file))
        return
    print(machine(*DISTRIBUTIONS))
    parts = arguments.only.split(",")
    found: dict[str, Any] = {}
    if {"onset", "rows"} & set(parts):
        with listening(Receiver()) as receiver:
            found |= freshness(receiver, parts)
    if "changes" in parts:
        found["onset_to_alert_s"] = changes = {}
        for stream, (rate, apps) in CHANGES.items():
            with listening(Receiver()) as receiver, running(receiver) as (up, bootstrap, _, _):
                changes[f"at_{stream}"] = onset_to_alert(up, bootstrap, receiver, rate, apps)
    report(found, *DISTRIBUTIONS)


if __name__ == "__main__":
    main()
