"""What land and meter move a second, next to two prototypes, from the same topic in the same round.

land: topic -> rows queryable in the lake, exactly once. meter: topic -> committed rollups. ``bare`` and ``strict`` are
the prototypes of ``_peers``. Each case is a process of its own on a new topic of a real broker on this machine; figures
are medians of interleaved rounds; set-up (open the lake, assign) is left out. Per CPU-second counts all threads of the
process. Each has moved 400 other events before it is measured: what happens once a life (imports, the price catalogue)
is not what an event costs. Events: 1 KB and 4 KB; content that an emitter has redacted, and content that land has to.
Run: ``make bench-throughput``; ``QUICK=1`` for the short form. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import confluent_kafka as ck
import msgspec
import structlog
from _report import QUICK, machine, report, spread

from pipelines.kafka import Admin, KafkaConfig, Source
from schemas.topics import EVENTS, TOPICS
from tailrace.broker import Broker

DISTRIBUTIONS = ("confluent-kafka", "duckdb", "pyarrow", "msgspec")
ROUNDS = 3 if QUICK else 5
PARTITIONS = 4
WARM = "warm-"
PER_EVENT_SECOND = 2_000
"""Event time passes so fast: two thousand calls a second, read from a backlog."""


@dataclass(frozen=True)
class Load:
    """One topic's worth of events."""

    name: str
    words: int
    marked: bool
    events: int
    cases: tuple[str, ...]


ALL = ("land", "meter", "bare", "strict")
LOADS = (
    Load("", 45, True, 50_000 if QUICK else 200_000, ALL),
    Load("redacting", 45, False, 20_000 if QUICK else 60_000, ("land", "meter")),
    *(() if QUICK else (Load("4kb", 300, True, 60_000, ALL), Load("4kb_redacting", 300, False, 20_000, ("land",)))),
)


def events(load: Load) -> Iterator[bytes]:
    """Made-up calls: 64 series of (feature, tenant), 3,000 users, 3 models, Zipf words."""
    draw = random.Random(load.name)
    lexicon = [
        f"{draw.choice('bcdfglmnprstv')}{draw.choice('aeiou')}{draw.choice('lmnrst')}{i % 97}" for i in range(4000)
    ]
    weights = [1 / (i + 3) for i in range(len(lexicon))]
    pool = draw.choices(lexicon, weights, k=500_000)
    start = time.time() - load.events / PER_EVENT_SECOND

    def text() -> str:
        at = draw.randrange(len(pool) - load.words)
        return " ".join(pool[at : at + load.words])

    mode = {"mode": "redacted"} if load.marked else {}
    for i in range(load.events):
        event = {
            "v": 1,
            "type": "call",
            "id": str(uuid.UUID(int=draw.getrandbits(128))),
            "ts": datetime.fromtimestamp(start + i / PER_EVENT_SECOND, UTC).isoformat(timespec="milliseconds"),
            "app": "support-bot" if i % 3 else "search",
            "model": draw.choice(("gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro")),
            "feature": f"f{draw.randrange(8)}",
            "team": "support",
            "tenant": f"t{draw.randrange(8)}",
            "user": f"u{int(3000 * draw.random() ** 2)}",
            "status": "ok",
            "finish_reason": "stop",
            "latency": {"total_ms": round(draw.lognormvariate(6.5, 0.5), 1), "ttft_ms": 120.5},
            "release": "2.4.1",
            "tokens": {"input": draw.randrange(50, 2000), "output": draw.randrange(10, 400), "cache_read": 10},
            "prompt": {"name": "answer", "version": "17"},
            "content": {**mode, "input": [{"role": "user", "text": text()}], "output": text()},
            "guardrails": [{"name": "pii", "stage": "input", "action": "pass"}],
        }
        yield msgspec.json.encode(event)


def produce(file: Path, bootstrap: str, topic: str) -> None:
    """Put the lines of ``file`` on ``topic``."""
    producer = ck.Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.size": 1 << 20,
            "queue.buffering.max.messages": 500_000,
            "queue.buffering.max.kbytes": 1 << 20,
        }
    )
    with file.open("rb") as lines:
        for i, line in enumerate(lines):
            while True:
                try:
                    producer.produce(topic, line[:-1], partition=i % PARTITIONS)
                    break
                except BufferError:
                    producer.poll(0.1)
    assert producer.flush(120) == 0


def land(kafka: KafkaConfig, folder: Path) -> tuple[int, float, float]:
    """Run land as the stage does, until its ledger is at the end of llm.events."""
    from pipelines.clock import now_us
    from pipelines.land import LandConfig
    from pipelines.land.stage import Land
    from warehouse.lake import Lake
    from warehouse.storage.connect import LakeConfig

    config = LandConfig(kafka, LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data")), group=None)
    with (
        Lake.open(config.lake, now=now_us) as lake,
        Land(config, lake, threading.Event(), now=now_us, heartbeat=lambda facts: None) as stage,
    ):
        stage.start()
        total = _total(kafka)
        began, cpu = time.perf_counter(), time.process_time()
        while sum(n for (topic, _), n in lake.ledger().items() if topic == EVENTS) < total:
            stage.step()
        took = time.perf_counter() - began, time.process_time() - cpu
        rows = lake.query("SELECT count(*) AS n, count(cost_usd) AS priced FROM calls").to_pylist()[0]
        assert rows == {"n": total, "priced": total}, rows
        return total, *took


def meter(kafka: KafkaConfig, _folder: Path) -> tuple[int, float, float]:
    """Run meter as the stage does, until its committed position is at the end of llm.events."""
    from pipelines.meter.stage import MeterConfig, _Session

    session = _Session(MeterConfig(kafka), None, threading.Event(), lambda: time.time_ns() // 1000, lambda facts: None)
    total = _total(kafka)
    began, cpu = time.perf_counter(), time.process_time()
    while sum(session._source.positions().values()) < total:
        session.step()
    took = time.perf_counter() - began, time.process_time() - cpu
    session.close()
    return total, *took


def peer(name: str) -> Callable[[KafkaConfig, Path], tuple[int, float, float]]:
    def run(kafka: KafkaConfig, folder: Path) -> tuple[int, float, float]:
        import _peers

        return _peers.run(getattr(_peers, name), kafka.bootstrap_servers, kafka.prefix + EVENTS, folder)

    return run


CASES = {"land": land, "meter": meter, "bare": peer("bare"), "strict": peer("strict")}


def _total(kafka: KafkaConfig) -> int:
    source = Source(kafka, [EVENTS])
    marks = source.partitions(EVENTS)
    source.close()
    return sum(high for _, high in marks.values())


def child(arguments: argparse.Namespace) -> None:
    """One case in a process of its own; prints what it took."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    kafka = KafkaConfig(arguments.bootstrap, arguments.prefix)
    if arguments.case == "produce":
        produce(Path(arguments.file), arguments.bootstrap, arguments.prefix + EVENTS)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        CASES[arguments.case](KafkaConfig(arguments.bootstrap, WARM + arguments.prefix), Path(folder) / "warm")
        total, seconds, cpu = CASES[arguments.case](kafka, Path(folder) / "lake")
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"events": total, "per_s": total / seconds, "per_cpu_s": total / cpu, "rss_mb": rss}))


def start(case: str, bootstrap: str, prefix: str, folder: Path, file: Path) -> str:
    command = [sys.executable, __file__, "--case", case, "--bootstrap", bootstrap, "--prefix", prefix]
    done = subprocess.run(
        [*command, "--folder", str(folder), "--file", str(file)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def measure(bootstrap: str, folder: Path) -> dict[tuple[str, str], list[dict[str, float]]]:
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for number in range(ROUNDS):
        for load in LOADS:
            file = folder / f"{load.name or 'events'}.jsonl"
            if not file.exists():
                file.write_bytes(b"".join(line + b"\n" for line in events(load)))
                size = file.stat().st_size / load.events
                print(f"{load.events:,} events of {size:,.0f} bytes {load.name}", flush=True)
            prefix = f"b{number}{load.name}."
            admin = Admin(KafkaConfig(bootstrap, prefix))
            admin.create_topics(TOPICS, partitions=PARTITIONS, replication=1)
            start("produce", bootstrap, prefix, folder, file)
            few = folder / "few.jsonl"
            few.write_bytes(b"".join(line + b"\n" for line in islice(events(load), 400)))
            turn = number % len(load.cases)
            for case in (*load.cases[turn:], *load.cases[:turn]):
                warm = Admin(KafkaConfig(bootstrap, WARM + prefix))
                warm.create_topics(TOPICS, partitions=PARTITIONS, replication=1)
                produce(few, bootstrap, WARM + prefix + EVENTS)
                took = json.loads(start(case, bootstrap, prefix, folder, file).splitlines()[-1])
                warm.delete_topics([t.name for t in TOPICS])
                found.setdefault((load.name, case), []).append(took)
                print(
                    f"round {number} {load.name:14} {case:7} {took['per_s']:>9,.0f}/s "
                    f"{took['per_cpu_s']:>9,.0f} per CPU-second {took['rss_mb']:>6,.0f} MB",
                    flush=True,
                )
            admin.delete_topics([t.name for t in TOPICS])
    return found


def figures(found: dict[tuple[str, str], list[dict[str, float]]]) -> dict[str, Any]:
    def median(load: str, case: str, what: str) -> float:
        return statistics.median(took[what] for took in found[load, case])

    def ratio(load: str, case: str, peer: str) -> float:
        """Median over rounds of the ratio within a round."""
        pairs = zip(found[load, case], found[load, peer], strict=True)
        return round(statistics.median(a["per_cpu_s"] / b["per_cpu_s"] for a, b in pairs), 3)

    result: dict[str, Any] = {}
    for load in LOADS:
        name = f"_{load.name}" if load.name else ""
        for case in load.cases:
            if not load.name:
                result[f"{case}_per_s"] = round(median("", case, "per_s"))
            result[f"{case}{name}_per_cpu_s"] = round(median(load.name, case, "per_cpu_s"))
        if load.cases == ALL:
            result[f"land{name}_vs_bare"] = ratio(load.name, "land", "bare")
            result[f"land{name}_vs_strict"] = ratio(load.name, "land", "strict")
        if "meter" in load.cases:
            result[f"meter{name}_vs_land"] = ratio(load.name, "meter", "land")
    for case in ALL:
        most = max(took["rss_mb"] for (_, c), rounds in found.items() if c == case for took in rounds)
        result[f"{case}_rss_mb"] = round(most)
    result["rounds"] = ROUNDS
    result["spread"] = spread([took["per_cpu_s"] for took in found["", "land"]])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=[*CASES, "produce"])
    for name in ("bootstrap", "prefix", "folder", "file"):
        parser.add_argument(f"--{name}", default="")
    arguments = parser.parse_args()
    if arguments.case:
        child(arguments)
        return
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    print(machine(*DISTRIBUTIONS))
    with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "kafka") as broker:
        found = measure(broker.bootstrap, Path(folder))
    report(figures(found), *DISTRIBUTIONS)


if __name__ == "__main__":
    main()
