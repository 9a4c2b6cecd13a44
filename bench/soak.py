"""Half an hour at the highest rate that this machine holds: memory flat, handles bounded, lag shown and made up?

The whole of ``tailrace up`` runs here, broker included, under calls of about 1 KB. ``find``: the rate grows by a fifth
until land or meter fall behind. ``prove``: four fifths of that, tried for a minute and a half, and lowered to nine
tenths of what was really worked off until lag no longer grows. ``hold``: every process is looked at each few seconds,
maintain runs beside it; ``rss_growth_mb`` is the last five minutes against the minutes five to ten, of all stages
together. ``overload``: three times the rate for a minute; what lag ``status`` shows, and how long until it is made up
at half the rate. Last, all that was acknowledged is counted in the lake and ``tailrace verify`` run.
Run: ``make bench-soak``; ``QUICK=1`` for the short form; an argument is minutes. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import psutil
from _report import QUICK, REPO, machine, report
from _up import Up

from schemas.topics import EVENTS
from tailrace.demo.receiver import Receiver, listening
from tailrace.home.layout import Home
from warehouse.storage.connect import LakeConfig, connect

DISTRIBUTIONS = ("confluent-kafka", "duckdb", "faust-streaming", "sentence-transformers")
FIRST_RATE = 2_000.0
FIND_S = 30 if QUICK else 240
PROVE_S = 20 if QUICK else 90
PROVE_TIMES = 8
LOOK_S = 2 if QUICK else 5
OVERLOAD_S = 15 if QUICK else 60
OVERLOAD_TIMES = 3
BEHIND_S = 4.0
"""Land and meter work in batches of up to a second or two: more than this is behind."""
MAINTAIN_EVERY_S = 30 if QUICK else 600
JUDGED = ("land", "meter")
"""Stages whose lag decides; detect and notify read a few messages a second, drift samples."""
_CALL = (
    b'{"v":1,"type":"call","id":"%s-4000-8000-%012x","ts":%d,"app":"app%d","model":"gpt-4o","feature":"f%d","team":"t%d",'
    b'"tenant":"x%d","user":"u%d","status":"ok","tokens":{"input":%d,"output":%d,"cache_read":10},"latency":'
    b'{"total_ms":%d,"ttft_ms":120.5},"prompt":{"name":"answer","version":"17"},"guardrails":[{"name":"pii","stage":'
    b'"input","action":"pass"}],"content":{"mode":"redacted","input":[{"role":"user","text":"%s"}],"output":"%s"}}'
)


def pump(bootstrap: str, rate: Any, acked: Any, stop: Any) -> None:
    """Produce at ``rate.value`` calls a second until ``stop``; ``acked`` counts what the brokers took."""
    producer = ck.Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 200_000,
        }
    )
    words = [f"word{i % 977}" for i in range(4_000)]
    texts = [" ".join(words[i * 3 : i * 3 + 22]).encode() for i in range(1_000)]
    run = uuid.uuid4().hex[:12]
    prefix = f"{run[:8]}-{run[8:]}".encode()

    def noted(error: ck.KafkaError | None, _message: ck.Message) -> None:
        assert error is None, error
        acked.value += 1

    n, due = 0, time.monotonic()
    while not stop.is_set():
        now = time.monotonic()
        due = max(due, now - 1.0)  # what the brokers refused for longer is not caught up in one burst
        ts = int(time.time() * 1000)
        while due < now:
            value = _CALL % (
                *(prefix, n, ts, n % 5, n % 8, n % 7, n % 11, n * n % 30_011, n % 1_989 + 50, n % 391, n % 5_000),
                *(texts[n % 1_000], texts[(n * 7) % 1_000]),
            )
            try:
                producer.produce(EVENTS, value, b"%d" % n, on_delivery=noted)
            except BufferError:
                producer.poll(0.05)
                break
            n += 1
            due += 1 / rate.value
        producer.poll(0.002)
    assert producer.flush(120) == 0


@dataclass
class Sample:
    """One look at every process."""

    at: float
    lag: dict[str, int]
    rss_mb: dict[str, float]
    handles: dict[str, int]
    acked: int
    """Events that the brokers have taken so far."""


@dataclass
class Watch:
    """Looks at the processes below one ``up``, and at its home."""

    up: Up
    home: Path
    acked: Any
    samples: list[Sample] = field(default_factory=list)

    def look(self) -> Sample:
        """Take a sample and keep it."""
        found = processes(self.up.process.pid)
        self.samples.append(
            Sample(
                time.monotonic(),
                {name: self.lag(name) for name in JUDGED},
                {name: round(sum(map(rss_mb, pids)), 1) for name, pids in found.items()},
                {name: sum(map(handles, pids)) for name, pids in found.items()},
                self.acked.value,
            )
        )
        return self.samples[-1]

    def lag(self, stage: str) -> int:
        """Return what ``status`` shows: records that the stage has not read; without a word of it, very many."""
        said = (Home(self.home).read_run(stage) or {}).get("facts", {})
        return int(said["lag"]) if said.get("lag") is not None else 10**9

    def disk_mb(self) -> float:
        """Return the size of everything in the home: Kafka's log, the lake, logs."""
        sizes = 0
        for folder, _, files in os.walk(self.home):
            for name in files:
                with contextlib.suppress(OSError):  # files come and go
                    sizes += os.stat(os.path.join(folder, name)).st_size
        return round(sizes / 2**20, 1)

    def during(self, start: float, end: float) -> list[Sample]:
        """Return the samples between two moments."""
        return [sample for sample in self.samples if start <= sample.at <= end]


def processes(root: int) -> dict[str, list[int]]:
    """Return stage -> pids below ``root``; what a stage starts (a model, a maintain run) stands on its own."""
    found: dict[str, list[int]] = {"up": [root]}
    for process in sorted(psutil.Process(root).children(recursive=True), key=lambda each: each.pid):
        try:
            words = process.cmdline()
        except psutil.Error:
            continue
        if words and "java" in words[0]:
            name = "broker"
        elif "tailrace" in words and "job" not in words:
            name = words[words.index("tailrace") + 1]
        else:
            name = "job" if "job" in words else "model"
        found.setdefault(name, []).append(process.pid)
    return found


def rss_mb(pid: int) -> float:
    """Resident memory of a process, MiB; 0 where it has just ended."""
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except psutil.Error:
        return 0.0


def handles(pid: int) -> int:
    """Open file handles of a process."""
    try:
        return int(psutil.Process(pid).num_fds())
    except psutil.Error:
        return 0


def find_rate(watch: Watch, rate: Any) -> float:
    """Raise the rate until land or meter fall behind; return four fifths of that one."""
    end = time.monotonic() + FIND_S
    rate.value = FIRST_RATE
    while time.monotonic() < end:
        time.sleep(LOOK_S * 2)
        sample = watch.look()
        behind = max(sample.lag[name] for name in JUDGED) / rate.value
        print(f"find: {rate.value:,.0f}/s, {behind:.1f} s behind", flush=True)
        if behind > BEHIND_S:
            break
        rate.value *= 1.2
    return float(rate.value) * 0.8


def settle(watch: Watch, rate: Any, within_s: float, *, below: int) -> float:
    """Wait at half the rate until land and meter are less than ``below`` records behind; return how long it took."""
    began, full = time.monotonic(), rate.value
    rate.value = full / 2
    while max(watch.look().lag[name] for name in JUDGED) > below:
        assert time.monotonic() - began < within_s, watch.up.status()["stages"]
        time.sleep(LOOK_S)
    rate.value = full
    return time.monotonic() - began


def prove_rate(watch: Watch, rate: Any) -> None:
    """Lower the rate until lag does not grow at it: the first minute of any rate goes to memory, not to the disk."""
    for _ in range(PROVE_TIMES):
        settle(watch, rate, 900, below=int(BEHIND_S * rate.value))
        began = watch.look()
        time.sleep(PROVE_S)
        ended = watch.look()
        took = ended.at - began.at
        grew = max(ended.lag[name] - began.lag[name] for name in JUDGED) / took
        done = (ended.acked - began.acked) / took - max(0.0, grew)
        print(f"prove: {rate.value:,.0f}/s, lag grows by {grew:,.0f}/s, {done:,.0f}/s worked off", flush=True)
        if max(ended.lag[name] for name in JUDGED) < 2 * BEHIND_S * rate.value and grew < 0.02 * rate.value:
            return
        rate.value = 0.9 * done
    raise AssertionError(f"lag still grows at {rate.value:,.0f}/s")


def hold(watch: Watch, rate: Any, minutes: float) -> dict[str, Any]:
    """Hold the rate and look; lower it by a tenth where it proves too high (the first minutes had free page cache)."""
    began, cuts = time.monotonic(), 0
    next_maintain = began + MAINTAIN_EVERY_S / 2
    jobs: list[subprocess.Popen[bytes]] = []
    log = (watch.home / "maintain.log").open("wb")
    job_rss = 0.0
    while (elapsed := time.monotonic() - began) < minutes * 60:
        time.sleep(LOOK_S)
        sample = watch.look()
        job_rss = max(job_rss, *(rss_mb(job.pid) for job in jobs), 0.0)
        if max(sample.lag[name] for name in JUDGED) > 12 * BEHIND_S * rate.value:
            rate.value *= 0.9
            cuts += 1
            settle(watch, rate, 900, below=int(BEHIND_S * rate.value))
        if time.monotonic() > next_maintain:
            command = [sys.executable, "-m", "tailrace", "job", "run", "maintain", "--json"]
            jobs.append(subprocess.Popen(command, cwd=REPO, env=watch.up.environment, stdout=log, stderr=log))
            next_maintain += MAINTAIN_EVERY_S
        if len(watch.samples) % 12 == 0:
            lag = {name: sample.lag[name] for name in JUDGED}
            print(f"hold: {elapsed / 60:.1f} min, {rate.value:,.0f}/s, lag {lag}, MB {sample.rss_mb}", flush=True)
    codes = [job.wait(300) for job in jobs]
    log.close()
    if any(codes):
        print(f"maintain ended with {codes}: {(watch.home / 'maintain.log').read_text()[-3000:]}", flush=True)
    return {
        "minutes": minutes,
        **judged(watch.during(began, time.monotonic()), minutes),
        "rate_cuts": cuts,
        "maintain_runs": len(codes),
        "maintain_ok": not any(codes),
        "maintain_rss_mb": round(job_rss, 1),
        "disk_mb": watch.disk_mb(),
    }


def judged(samples: list[Sample], minutes: float) -> dict[str, Any]:
    """Return what the held time shows: the rate that was really taken, growth of memory and handles, lag."""
    first, last, part = samples[0], samples[-1], minutes * 60 / 6
    early = [s for s in samples if part <= s.at - first.at < 2 * part]
    late = [s for s in samples if s.at - first.at >= 5 * part]
    rate = (last.acked - first.acked) / (last.at - first.at)
    growth = grown([s.rss_mb for s in early], [s.rss_mb for s in late])
    behind = [max(s.lag[name] for name in JUDGED) / rate for s in samples]
    return {
        "rate": round(rate),
        "rss_growth_mb": round(sum(growth.values()), 1),
        "rss_growth_by_stage_mb": growth,
        "rss_mb": last.rss_mb,
        "handles_growth": sum(grown([s.handles for s in early], [s.handles for s in late]).values()),
        "handles": last.handles,
        "behind_p50_s": round(statistics.median(behind), 1),
        "behind_max_s": round(max(behind), 1),
    }


def grown(early: Sequence[Mapping[str, float]], late: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return how much each stage's median grew; jobs come and go and are left out."""
    names = {name for sample in (*early, *late) for name in sample} - {"job"}
    median = statistics.median
    return {
        name: round(median(s.get(name, 0.0) for s in late) - median(s.get(name, 0.0) for s in early), 1)
        for name in sorted(names)
    }


def overload(watch: Watch, rate: Any) -> dict[str, Any]:
    """Send far too much for a while; nothing is shed: lag grows, is shown, and is made up."""
    sustained = rate.value
    before = watch.look()
    rate.value = sustained * OVERLOAD_TIMES
    end = time.monotonic() + OVERLOAD_S
    while time.monotonic() < end:
        time.sleep(LOOK_S)
        watch.look()
    rate.value = sustained
    took = settle(watch, rate, 1800, below=int(BEHIND_S * sustained))
    seen = watch.during(before.at, time.monotonic())
    rss = {name: max(s.rss_mb.get(name, 0.0) for s in seen) for name in before.rss_mb}
    shown = {name: max(s.lag[name] for s in seen) for name in JUDGED}
    return {"overload_lag_shown": shown, "overload_made_up_s": round(took, 1), "overload_rss_mb": rss}


def counted(up: Up, lake: LakeConfig, acked: int) -> dict[str, Any]:
    """Count the lake, and let it prove itself."""
    reader = connect(lake, read_only=True)
    rows, places = reader.execute(
        "SELECT count(*), count(DISTINCT (_partition, _offset)) FROM raw_calls"
    ).fetchone() or (
        0,
        0,
    )
    reader.close()
    command = [sys.executable, "-m", "tailrace", "verify", "--json"]
    told = subprocess.run(command, cwd=REPO, env=up.environment, capture_output=True, text=True, check=False)
    said: Mapping[str, Any] = json.loads(told.stdout)
    return {"events": acked, "lost": acked - places, "doubled": rows - places, "verify": said["ok"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=1.0 if QUICK else 30.0)
    minutes = parser.parse_args().minutes
    print(machine(*DISTRIBUTIONS), flush=True)
    spawn = multiprocessing.get_context("spawn")
    rate, acked, stop = spawn.Value("d", FIRST_RATE), spawn.Value("q", 0), spawn.Event()
    with tempfile.TemporaryDirectory(prefix="tailrace-soak-") as folder, listening(Receiver()) as receiver:
        home = Path(folder) / "home"
        home.mkdir()
        up = Up(home, receiver)
        watch = Watch(up, home, acked)
        load = None
        try:
            told = up.ready()
            lake = LakeConfig(told["lake"]["catalog"], told["lake"]["data_path"], memory_limit="4GiB")
            load = spawn.Process(target=pump, args=(told["kafka"]["bootstrap_servers"], rate, acked, stop), daemon=True)
            load.start()
            rate.value = find_rate(watch, rate)
            prove_rate(watch, rate)
            found = hold(watch, rate, minutes)
            found |= overload(watch, rate)
            stop.set()
            load.join(150)
            assert load.exitcode == 0, f"the pump ended with {load.exitcode}"
            settle(watch, rate, 600, below=0)
            time.sleep(3)
            found |= counted(up, lake, acked.value)
            stages = up.status()["stages"]
            found["lag_end"] = {name: stage["lag"] for name, stage in stages.items()}
            found["restarts"] = sum(stage["restarts"] for stage in stages.values())
            found["alerts_told"] = len(receiver.alerts)
        finally:
            stop.set()
            up.stop()
    report(found, *DISTRIBUTIONS)
    sound = not (found["lost"] or found["doubled"] or found["restarts"]) and found["verify"] and found["maintain_ok"]
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
