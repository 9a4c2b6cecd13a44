"""Whether the unit costs predict how long 1, 2 and 4 copies of land and of meter take for a backlog on this machine.

First each stage is measured by itself, in one process (`_scale_units`), on a real broker and PostgreSQL, with as many
partitions as one of the copies has: a batch of few partitions makes fewer rows of rollups, and is cheaper. Where there
are several copies, as many processes measure at once, each with topics and a lake of its own: those that share cores,
caches and memory need more processor time for the same work than one alone. From these costs alone
``_scale_drain`` predicts the seconds of 1, 2 and 4 copies. Then real copies (``TAILRACE_COPY_NAME``) work off the same
backlog: they are started, dealt their partitions and stopped (SIGSTOP) while the backlog is produced; the time runs
from the beginning of the first batch to the end of the last one in their logs. What passes between SIGCONT and the
first batch is printed (``start_s``): consumers that were stopped wait for the brokers, which is no work.
``worst_error`` is the largest |predicted / measured - 1| over both stages and the three numbers of copies. Of the
rounds, the fastest counts, for costs and for copies: other work on the machine can only add time. ``--save FILE`` keeps
costs and figures; ``make docs`` makes docs/operate/scaling.md of bench/scale_costs.json. Needs PostgreSQL (``make
setup-system``).
Run: ``make bench-scale_sim``; ``QUICK=1`` for the short form. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from _report import QUICK, REPO, machine, report, spread

sys.path.insert(0, str(REPO))
sys.path.insert(0, str(REPO / "tests" / "faults"))

from _backlog import calls, cpu_s, produce, size
from _scale_drain import Stage, Work, drain
from _scale_model import Costs
from fault_harness.postgres import Postgres, binaries
from fault_harness.process import Process, wait_until
from fault_harness.scene import Scene

from pipelines.kafka import Admin, KafkaConfig
from schemas.topics import EVENTS, TOPICS
from tailrace.broker import Broker

DISTRIBUTIONS = ("confluent-kafka", "duckdb", "duckdb-extension-ducklake", "pyarrow")
COPIES = (1, 2, 4)
PARTITIONS = 4
FEW_APPS, MANY_APPS = 2, 1_000
ROWS = {"land": 10_000, "meter": 5_000} if QUICK else {"land": 12_500, "meter": 6_250}
"""Of a batch; the defaults are 50,000 and 20,000. A copy has at least two whole batches."""
EVENTS_EACH = 80_000 if QUICK else 300_000
UNIT_EVENTS = 30_000 if QUICK else 100_000
MANY_EVENTS = 40_000
ROUNDS = 1 if QUICK else 3
LINE = {"land": "batch_landed", "meter": "batch_metered"}
WARM = 400
TRIES = 3
KEY = "a-key-of-this-benchmark-0123456789ab"


class Machine:
    """Broker, PostgreSQL and a folder."""

    def __init__(self, folder: Path, broker: Broker, postgres: Postgres) -> None:
        self.folder, self.broker, self.postgres = folder, broker, postgres
        self.servers = [broker.pid, postgres.process.pid]

    def catalog(self) -> str:
        """Make a database for one lake."""
        database = self.postgres.database(f"s{uuid.uuid4().hex[:12]}")
        return f"postgres:host=127.0.0.1 port={self.postgres.port} {database}"

    def units(self, events: int, apps: int, partitions: int, *, rollups: bool, beside: int = 1) -> dict[str, float]:
        """Return what `_scale_units` measures: the mean of ``beside`` processes that measure at the same time.

        Each of them has counted what broker and PostgreSQL did for all of them.
        """
        children = [self._child(events, apps, partitions, rollups=rollups) for _ in range(beside)]
        found = [child() for child in children]
        mean = {name: sum(one[name] for one in found) / beside for name in found[0]}
        return {name: value / beside if name.endswith("_servers_s") else value for name, value in mean.items()}

    def _child(self, events: int, apps: int, partitions: int, *, rollups: bool) -> Callable[[], dict[str, float]]:
        """Start a process that measures; return what waits for its figures."""
        prefix, folder = f"u{uuid.uuid4().hex[:8]}.", Path(tempfile.mkdtemp(dir=self.folder))
        Admin(KafkaConfig(self.broker.bootstrap, prefix)).create_topics(TOPICS, partitions=partitions, replication=1)
        options = {
            "bootstrap": self.broker.bootstrap, "prefix": prefix, "catalog": self.catalog(), "folder": folder,
            "events": events, "apps": apps, "partitions": partitions,
            "land-rows": ROWS["land"], "meter-rows": ROWS["meter"],
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        words += ["--rollups"] * rollups
        command = [sys.executable, "bench/_scale_units.py", *words, "--servers", *map(str, self.servers)]
        path = os.pathsep.join((str(REPO), str(REPO / "emitter")))
        child = subprocess.Popen(
            command,
            cwd=REPO,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

        def figures() -> dict[str, float]:
            out, err = child.communicate()
            if child.returncode:
                raise SystemExit(f"the unit costs were not measured:\n{err[-3000:]}")
            found: dict[str, float] = json.loads(out.splitlines()[-1])
            logs = size(self.folder, f"broker/kafka/data/{prefix}{EVENTS}-*/*.log")
            shutil.rmtree(folder)
            return {**found, "kafka_bytes": logs / events}

        return figures

    def measure(self, name: str, copies: int, lines: list[bytes]) -> dict[str, float]:
        """Return what ``copies`` of stage ``name`` took for ``lines``.

        Again where the partitions were assigned again meanwhile: on a busy machine the copies may be stopped for longer
        than the brokers wait for a member, 10 s.
        """
        for _ in range(TRIES):
            if took := self._measured(name, copies, lines):
                return took
        raise SystemExit(
            f"{copies} copies of {name}: partitions were assigned again {TRIES} times; is the machine idle?"
        )

    def _measured(self, name: str, copies: int, lines: list[bytes]) -> dict[str, float] | None:
        home = Path(tempfile.mkdtemp(dir=self.folder))
        scene = Scene(
            self.broker.bootstrap,
            home,
            catalog=self.catalog(),
            data_path=str(home / "shared" / "data"),
            partitions=PARTITIONS,
            settings={
                "TAILRACE_USER_KEY": KEY,
                "TAILRACE_PRICES": "[]",
                "TAILRACE_LAND__BATCH_WAIT_S": "1.0",
                "TAILRACE_LAND__BATCH_ROWS": str(ROWS["land"]),
                "TAILRACE_METER__BATCH_ROWS": str(ROWS["meter"]),
            },
        )
        try:
            running = [self._start(scene, name, f"c{n}") for n in range(copies)]
            topic = scene.kafka.prefix + EVENTS
            produce(calls(WARM, FEW_APPS, "warm"), self.broker.bootstrap, topic, PARTITIONS)
            wait_until(lambda: _moved(name, running) >= WARM, 120, f"{copies} copies of {name} work", scene.tails)
            dealt = _deals(running)
            took = self._drained(name, running, lines, topic)
            return took if _deals(running) == dealt else None
        finally:
            scene.close()
            shutil.rmtree(home, ignore_errors=True)

    def _start(self, scene: Scene, name: str, copy: str) -> Process:
        (scene.home / copy).mkdir()
        process = scene.start(name, TAILRACE_HOME=str(scene.home / copy), TAILRACE_COPY_NAME=copy)
        process.says("share_dealt", 120)
        return process

    def _drained(self, name: str, running: list[Process], lines: list[bytes], topic: str) -> dict[str, float]:
        for process in running:
            process.stop()
        produce(lines, self.broker.bootstrap, topic, PARTITIONS)
        before = cpu_s(*(p.pid for p in running)), cpu_s(*self.servers)
        began = time.time()
        for process in running:
            process.cont()
        wait_until(lambda: _moved(name, running) >= WARM + len(lines), 300, "the backlog is worked off")
        used = cpu_s(*(p.pid for p in running)) - before[0], cpu_s(*self.servers) - before[1]
        batches = [entry for process in running for entry in _batches(name, process) if entry["at"] > began]
        ended, first = max(entry["at"] for entry in batches), min(entry["at"] - entry["took_s"] for entry in batches)
        retries = sum(process.said.count('"transaction_retried"') for process in running)
        return {
            "seconds": ended - first,
            "start_s": first - began,
            "stages_s": used[0],
            "servers_s": used[1],
            "retries": retries,
            "commits": len(batches),
        }


def _batches(name: str, process: Process) -> list[dict[str, Any]]:
    """Return end, calls and duration of every batch in a log; of land the duration is that of the transaction."""
    found = []
    for line in process.said.splitlines():
        if f'"{LINE[name]}"' in line:
            entry = json.loads(line)
            moved = entry["rows"].get("raw_calls", 0) if name == "land" else entry["calls"]
            at = datetime.fromisoformat(entry["timestamp"]).timestamp()
            found.append({"at": at, "calls": moved, "took_s": entry["took_s"]})
    return found


def _deals(running: list[Process]) -> int:
    return sum(process.said.count('"share_dealt"') for process in running)


def _moved(name: str, running: list[Process]) -> int:
    time.sleep(0.2)  # the cores are the stages'
    return sum(entry["calls"] for process in running for entry in _batches(name, process))


def stages(few: dict[str, float]) -> dict[str, Stage]:
    """Return what a batch costs, from the measured units of one copy."""
    events, commits = few["land_events"], few["land_commits"]
    wall = few["land_inside_wall_s"] - commits * few["commit_wall_s"]
    cpu = few["land_inside_own_s"] + few["land_inside_servers_s"] - commits * few["commit_cpu_s"]
    outside = few["land_own_s"] + few["land_servers_s"] - few["land_inside_own_s"] - few["land_inside_servers_s"]
    prepare = Work(
        each_s=(few["land_wall_s"] - few["land_inside_wall_s"]) / events, each_cpu_s=max(0.0, outside) / events
    )
    commit = Work(few["commit_wall_s"], wall / events, few["commit_cpu_s"], cpu / events)
    metered = few["meter_events"]
    counted = Work(
        each_s=few["meter_wall_s"] / metered, each_cpu_s=(few["meter_own_s"] + few["meter_servers_s"]) / metered
    )
    return {
        "land": Stage(ROWS["land"], prepare, commit, exclusive=True),
        "meter": Stage(ROWS["meter"], counted, Work()),
    }


WALL_OF = {
    "land_wall_s": "land_own_s",
    "land_inside_wall_s": "land_inside_own_s",
    "commit_wall_s": "commit_cpu_s",
    "meter_wall_s": "meter_own_s",
}
"""Wall time of a unit -> its processor time."""


def with_idle_cores(several: dict[str, float], one: dict[str, float]) -> dict[str, float]:
    """Return the units of processes that measured at once, with the wall time that idle cores would have given.

    DuckDB's threads of several processes wait for cores. ``drain`` lets copies share the cores, so that wait must not
    be in the units: wall time is that of ``one`` process, longer by as much as its processor time grew.
    """
    walls = {wall: one[wall] * max(several[cpu] / one[cpu], 1.0) for wall, cpu in WALL_OF.items()}
    return {**several, **walls}


def solved(few: tuple[float, float, float], many: tuple[float, float, float]) -> tuple[float, float]:
    """Return (x, y), none negative, of a x + b y = c for the two (a, b, c): two loads, two unit costs."""
    (a, b, c), (d, e, f) = few, many
    x = (c * e - b * f) / (a * e - b * d)
    y = (a * f - c * d) / (a * e - b * d)
    if x < 0:
        return 0.0, max(c / b, f / e)
    return (x, y) if y >= 0 else (max(c / a, f / d), 0.0)


def costs(few: dict[str, float], many: dict[str, float]) -> Costs:
    """Return the unit costs of the plan; two loads, of few apps and of many, tell events, messages and rows apart."""
    events, commit = few["land_events"], stages(few)["land"].commit

    def of(cost: str, first: str, second: str) -> tuple[float, float]:
        return solved((few[first], few[second], few[cost]), (many[first], many[second], many[cost]))

    for one in (few, many):
        one["meter_rows"] = one["rollup_rows"] * one["meter_messages"] / one["rollups"]
    land_message, land_row = of("rollups_own_s", "rollups", "rollup_rows")
    meter_event, meter_row = of("meter_own_s", "meter_events", "meter_rows")
    detect_message, detect_row = of("detect_s", "detect_messages", "detect_rows")
    return Costs(
        event_bytes=few["event_bytes"],
        kafka_bytes=few["kafka_bytes"],
        lake_bytes=few["lake_bytes"],
        row_bytes=many["row_bytes"],
        land_prepare_s=max(0.0, few["land_own_s"] - few["land_inside_own_s"]) / events,
        land_commit_s=few["land_inside_own_s"] / events,
        land_commit_wall_s=commit.each_s,
        commit_wall_s=few["commit_wall_s"],
        land_message_s=land_message,
        land_row_s=land_row,
        land_row_wall_s=many["rollups_inside_wall_s"] / many["rollup_rows"],
        meter_event_s=meter_event,
        meter_row_s=meter_row,
        detect_message_s=detect_message,
        detect_row_s=detect_row,
        detect_bucket_s=1 / 950,  # bench/live_ticks, in ticks, 2026-12-01
        broker_event_s=few["broker_in_s"] / few["events"]
        + few["land_servers_s"] / events
        + few["meter_servers_s"] / few["meter_events"],
        land_mb=few["land_mb"],
        meter_mb=600,  # bench/throughput, 2026-11-21
        detect_mb=300,  # a guess
        detect_app_mb=max(0.0, many["detect_grown_mb"]) / many["detect_apps"],
    )


def run(here: Machine, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return units, predictions, measurements and errors; ``save`` gets them after every round."""
    many = {} if QUICK else here.units(MANY_EVENTS, MANY_APPS, PARTITIONS, rollups=True)
    units: dict[int, list[dict[str, float]]] = {copies: [] for copies in COPIES}
    measured: dict[str, list[dict[str, float]]] = {}
    lines = calls(EVENTS_EACH, FEW_APPS, "backlog")
    found: dict[str, Any] = {}
    for number in range(ROUNDS):
        for copies in COPIES if number % 2 else COPIES[::-1]:
            partitions = PARTITIONS // copies
            rollups = partitions == PARTITIONS
            units[copies].append(here.units(UNIT_EVENTS, FEW_APPS, partitions, rollups=rollups, beside=copies))
            print(
                f"round {number + 1}/{ROUNDS} units of {partitions} partitions: {json.dumps(units[copies][-1])}",
                flush=True,
            )
            for name in ("land", "meter"):
                took = here.measure(name, copies, lines)
                measured.setdefault(f"{name}_{copies}", []).append(took)
                print(f"round {number + 1}/{ROUNDS} {name} x {copies}: {json.dumps(took)}", flush=True)
        least = {copies: _least(rounds) for copies, rounds in units.items()}
        found = compare({n: stages(with_idle_cores(unit, least[1])) for n, unit in least.items()}, measured)
        if many:
            found["costs"] = asdict(costs(least[1], many))
        save(found)
    return found


def compare(predicting: dict[int, dict[str, Stage]], measured: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return the figures: predicted and measured events a second.

    Args:
        predicting: copies -> what a batch of land and of meter costs one of them.
        measured: stage and copies -> rounds.
    """
    found: dict[str, Any] = {}
    for name in ("land", "meter"):
        for copies in COPIES:
            drained = drain(predicting[copies][name], events=EVENTS_EACH, copies=copies, cores=os.cpu_count() or 1)
            took = min(measured[f"{name}_{copies}"], key=lambda one: one["seconds"])
            found[f"{name}_{copies}"] = {
                "predicted_per_s": round(EVENTS_EACH / drained.seconds),
                "measured_per_s": round(EVENTS_EACH / took["seconds"]),
                "error": round(drained.seconds / took["seconds"] - 1, 3),
                "predicted_retries": drained.retries,
                "retries": took["retries"],
                "start_s": round(took["start_s"], 2),
                "cpu_us_each": round(1e6 * (took["stages_s"] + took["servers_s"]) / EVENTS_EACH, 1),
            }
    worst = max(abs(one["error"]) for one in found.values())
    seconds = [took["seconds"] for took in measured["land_1"]]
    rounds = len(seconds)
    return {"worst_error": worst, **found, "rounds": rounds, "spread": spread([EVENTS_EACH / s for s in seconds])}


def _least(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Return the least of every figure: other work on the machine can only add to a cost."""
    return {name: min(one[name] for one in rounds) for name in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--save", type=Path, help="keep costs and figures in this file, of the long form")
    options = parser.parse_args()
    if QUICK and options.save:
        raise SystemExit("the short form measures too little to be kept: leave QUICK or --save out")
    if binaries() is None:
        raise SystemExit("several copies of land need PostgreSQL, which is not installed: make setup-system")
    started = machine(*DISTRIBUTIONS)
    print(started, flush=True)

    def save(found: dict[str, Any]) -> None:
        if options.save:
            kept = {**found, "events": EVENTS_EACH, "partitions": PARTITIONS, "machine": started, "quick": QUICK}
            options.save.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")

    folder = Path(tempfile.mkdtemp(prefix="tailrace-scale-"))
    postgres = Postgres()
    try:
        with Broker(folder / "broker", heap_mb=512) as broker:
            found = run(Machine(folder, broker, postgres), save)
    finally:
        postgres.close()
        shutil.rmtree(folder, ignore_errors=True)
    report(found, *DISTRIBUTIONS)


if __name__ == "__main__":
    main()
