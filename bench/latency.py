"""How fresh: from produced to queryable, from the window's last event to the webhook, from a step to its alert.

The whole of ``tailrace up`` runs on this machine, broker included, with a lake, a model and a webhook receiver.
rows: at 10, 1,000 and 10,000 calls a second, from ``produce`` to the first moment at which a reader that polls the
lake finds the row; at 1,000 a second once more while maintain runs again and again. onset: an app at 10 calls/s whose
calls become ten times as dear at once; from the first dear event to the HTTP request; the same with the stages on the
way killed (SIGKILL) one by one, each at a random moment between the step and its alert. alert: from the last event
that the alert's ``observed`` counts to the HTTP request.
Run: ``make bench-latency``; ``QUICK=1`` for the short form. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import msgspec
import numpy as np
from _report import QUICK, machine, report
from _up import Up

from schemas.alerts import Alert
from schemas.topics import EVENTS
from tailrace.demo.receiver import Receiver, listening
from warehouse.storage.connect import LakeConfig, connect

DISTRIBUTIONS = ("confluent-kafka", "duckdb", "faust-streaming", "sentence-transformers")
RATES = (10, 1_000, 10_000)
MAINTAINED_RATE = 1_000
ROWS_S = 12 if QUICK else 60
STEPS = 3 if QUICK else 12
STEP_EVERY_S = 4.0
KILLS = ("meter", "detect", "notify") * (1 if QUICK else 3)
KILL_EVERY_S = 22.0  # far enough apart that a stage is back before the next
KILL_WITHIN_S = 11.0  # of the step: an undisturbed alert takes longer
HISTORY_S = 45 * 60
STEP_RATE = 10.0
LONGEST_WINDOW_S = 400
GIVE_UP_S = 60.0


class Calls:
    """Made-up calls of one app, distinct and about 1 KB where they carry texts. What each costs is known."""

    def __init__(self, app: str, seed: int, *, words: int = 0) -> None:
        self._app, self._words = app, words
        self._draw = random.Random(f"{app}-{seed}")
        lexicon = [f"{c}{v}{d}{i}" for i in range(20) for c in "bdfglmnprst" for v in "aeiou" for d in "nrs"]
        self._pool = self._draw.choices(lexicon, k=20_000)

    def call(self, ts_ms: int, *, times: int = 1) -> tuple[bytes, int]:
        """Return a call of gpt-4o, ``times`` as large as usual, and its cost in nano-USD."""
        draw = self._draw
        asked, said = draw.randrange(300, 900) * times, draw.randrange(50, 250) * times
        event: dict[str, Any] = {
            "v": 1,
            "type": "call",
            "id": str(uuid.UUID(int=ts_ms << 80 | 7 << 76 | 2 << 62 | draw.getrandbits(62))),
            "ts": ts_ms,
            "app": self._app,
            "model": "gpt-4o",
            "provider": "openai",
            "feature": "chat",
            "user": f"u{int(400 * draw.random() ** 2)}",
            "status": "ok",
            "latency": {"total_ms": 640.0, "ttft_ms": 120.0},
            "tokens": {"input": asked, "output": said},
        }
        if self._words:
            event["content"] = {
                "mode": "redacted",
                "input": [{"role": "user", "text": self._text()}],
                "output": self._text(),
            }
        return msgspec.json.encode(event), asked * 2500 + said * 10_000

    def _text(self) -> str:
        at = self._draw.randrange(len(self._pool) - self._words)
        return " ".join(self._pool[at : at + self._words])


def producer_of(bootstrap: str) -> ck.Producer:
    """As the emitter has it."""
    return ck.Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )


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


@dataclass
class Step:
    """One app whose calls become ten times as dear at ``at``; every call from then on: (time, ts µs, nano-USD)."""

    app: str
    kill: str = ""
    """The stage that is killed between this step and its alert."""
    at: float = 0.0
    calls: list[tuple[float, int, int]] = field(default_factory=list)
    first: float = 0.0


def history(bootstrap: str, steps: Sequence[Step], until: float) -> None:
    """Ten calls a second of each app for ``HISTORY_S`` seconds before ``until``, as fast as they are taken."""
    producer = producer_of(bootstrap)
    makers = {step.app: Calls(step.app, 0) for step in steps}
    rng = random.Random("history")
    for second in range(HISTORY_S):
        # in the order of their time: an app behind the others would be late
        moments = sorted((rng.random(), i) for i in range(len(steps)) for _ in range(int(STEP_RATE)))
        for part, i in moments:
            milliseconds = int((until - HISTORY_S + second + part) * 1000)
            value, nano = makers[steps[i].app].call(milliseconds)
            if second >= HISTORY_S - LONGEST_WINDOW_S:
                steps[i].calls.append((until, milliseconds * 1000, nano))
            while True:
                try:
                    producer.produce(EVENTS, value, key=value[30:60])
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


def play_steps(bootstrap: str, steps: Sequence[Step], heard: dict[str, tuple[float, Alert]], gap_from: float) -> None:
    """Play every app live from ``gap_from`` on, until each has stepped and alerted, or has had its time."""
    producer = producer_of(bootstrap)
    makers = {s.app: Calls(s.app, 1) for s in steps}
    rng = random.Random("live")
    due = [(gap_from + rng.random() / STEP_RATE, i) for i in range(len(steps))]
    heapq.heapify(due)
    last = max(s.at for s in steps) + GIVE_UP_S
    while time.time() < last and not all(s.app in heard for s in steps):
        at, i = heapq.heappop(due)
        step = steps[i]
        if (wait := at - time.time()) > 0:
            producer.poll(0)
            time.sleep(wait)
        dear = at >= step.at
        value, nano = makers[step.app].call(int(at * 1000), times=10 if dear else 1)
        now = time.time()
        producer.produce(EVENTS, value, key=value[30:60])
        step.calls.append((now, int(at * 1000) * 1000, nano))
        if dear and not step.first:
            step.first = now
        heapq.heappush(due, (at + rng.expovariate(STEP_RATE), i))
    producer.flush(30)


def decided_at(step: Step, alert: Alert) -> float | None:
    """When the last call was produced that ``observed`` counts; None where no run of calls gives that value."""
    if alert.unit not in ("USD", "USD/call"):
        return None
    start = datetime.fromisoformat(alert.window.start).timestamp() * 1e6
    calls = sorted((call for call in step.calls if call[1] >= start), key=lambda call: call[1])
    if not calls:
        return None
    values = np.cumsum([nano for _, _, nano in calls]) / 1e9
    if alert.unit == "USD/call":
        values = values / np.arange(1, len(calls) + 1)
    nearest = int(np.argmin(np.abs(values - alert.observed)))
    return calls[nearest][0] if abs(values[nearest] - alert.observed) <= 1e-9 * abs(alert.observed) else None


def onset(up: Up, bootstrap: str, receiver: Receiver) -> dict[str, Any]:
    """How long a x10 step of cost at ten calls a second takes to reach the webhook."""
    steps = [Step(f"step-{i}") for i in range(STEPS)] + [Step(f"killed-{i}", stage) for i, stage in enumerate(KILLS)]
    apps = [step.app for step in steps]
    until = time.time()
    history(bootstrap, steps, until)
    print(f"{len(apps) * HISTORY_S * STEP_RATE:,.0f} calls of history sent in {time.time() - until:.0f} s", flush=True)
    up.caught_up()
    heard: dict[str, tuple[float, Alert]] = {}
    stop = threading.Event()

    def listen() -> None:
        while not stop.wait(0.005):
            for alert in list(receiver.alerts):
                if alert.state == "firing" and alert.series.get("app") not in heard:
                    heard[alert.series.get("app", "")] = (time.time(), alert)

    threading.Thread(target=listen, daemon=True).start()
    start = time.time() + 12
    rng = random.Random("steps")
    for i, step in enumerate(steps):
        step.at = start + i * STEP_EVERY_S + rng.random() * 10
        if step.kill:
            step.at = start + STEPS * STEP_EVERY_S + 20 + (i - STEPS) * KILL_EVERY_S
            threading.Timer(step.at + rng.random() * KILL_WITHIN_S - time.time(), up.kill, (step.kill,)).start()
    play_steps(bootstrap, steps, heard, until)
    time.sleep(1)
    stop.set()
    early = [s.app for s in steps if s.app in heard and heard[s.app][0] < s.first]
    told = [(s, *heard[s.app]) for s in steps if s.app in heard and s.app not in early]
    onsets = [at - s.first for s, at, _ in told if not s.kill]
    killed = [at - s.first for s, at, _ in told if s.kill]
    after = [at - since for s, at, alert in told if not s.kill and (since := decided_at(s, alert)) is not None]
    for s, at, alert in told:
        about = f" ({s.kill} killed)" if s.kill else ""
        print(f"{s.app}{about}: {at - s.first:.1f} s after the first dear call: {alert.title}", flush=True)
    return {
        "onset_p50_s": quantile(onsets, 0.5),
        "onset_p90_s": quantile(onsets, 0.9),
        "onset_max_s": quantile(onsets, 1.0),
        "onset_killed_p50_s": quantile(killed, 0.5),
        "onset_killed_max_s": quantile(killed, 1.0),
        # the worst of them against the usual undisturbed one
        "late_after_kill_max_s": round(max(killed) - float(np.median(onsets)), 2) if killed and onsets else None,
        "killed": len(KILLS),
        "alert_p50_s": quantile(after, 0.5),
        "alert_p99_s": quantile(after, 0.99),
        "steps": len(steps),
        "alerted": len(told),
        "false_alerts": len(early) + len(set(heard) - set(apps)),
    }


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


def quantile(values: Any, q: float) -> float | None:
    """Rounded; None of nothing."""
    return round(float(np.quantile(np.asarray(values), q)), 2) if len(values) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paced", type=int, help=argparse.SUPPRESS)
    for name in ("bootstrap", "file"):
        parser.add_argument(f"--{name}", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.paced:
        paced(arguments.bootstrap, arguments.paced, ROWS_S, Path(arguments.file))
        return
    print(machine(*DISTRIBUTIONS))
    with tempfile.TemporaryDirectory() as folder, listening(Receiver()) as receiver:
        home = Path(folder) / "home"
        home.mkdir()
        up = Up(home, receiver)
        try:
            told = up.ready()
            bootstrap = told["kafka"]["bootstrap_servers"]
            lake = LakeConfig(told["lake"]["catalog"], told["lake"]["data_path"])
            found = onset(up, bootstrap, receiver)
            for rate in RATES:
                found |= rows(up, bootstrap, lake, rate, Path(folder))
                up.caught_up()
            with maintaining(up) as codes:
                found |= rows(up, bootstrap, lake, MAINTAINED_RATE, Path(folder), "_while_maintain_runs")
            found |= {"maintain_runs": len(codes), "maintain_ok": not any(codes)}
        finally:
            up.stop()
    main_rate = RATES[1]
    found = {
        "rate": main_rate,
        "row_p50_s": found[f"row_p50_s_at_{main_rate}"],
        "row_p99_s": found[f"row_p99_s_at_{main_rate}"],
        **found,
    }
    report(found, *DISTRIBUTIONS)


if __name__ == "__main__":
    main()
