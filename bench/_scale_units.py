"""Unit costs of land, meter and detect, each in one process: what `_scale_model.Costs` is made of.

A child of ``scale_sim``. It takes a topic from 2 apps or from 1,000 through the stages' own classes, on a PostgreSQL
catalog: the difference between the two is what rollup messages cost. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog
from _backlog import calls, cpu_s, produce, size

from pipelines.clock import now_us
from pipelines.detect.judge import Judge, PartitionState
from pipelines.kafka import KafkaConfig, Source
from pipelines.land import LandConfig
from pipelines.land.stage import Land
from pipelines.meter.stage import MeterConfig, _Session
from pipelines.meter.wire import decode
from schemas.records import Move, Record
from schemas.rollups import H_KIND
from schemas.topics import EVENTS, ROLLUPS
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

SMALL = 12
"""Commits with next to no events."""


@dataclass
class Used:
    """Wall and processor seconds: of this process, and of broker and PostgreSQL."""

    wall_s: float = 0.0
    own_s: float = 0.0
    servers_s: float = 0.0

    def __add__(self, other: Used) -> Used:
        """Return both together."""
        return Used(self.wall_s + other.wall_s, self.own_s + other.own_s, self.servers_s + other.servers_s)


class Meter:
    """Measures blocks of work; ``servers`` are process ids."""

    def __init__(self, servers: list[int]) -> None:
        self._servers = servers

    def of(self, work: Callable[[], Any]) -> Used:
        """Do ``work``. Time in which this thread could run and had no core is no part of its wall time."""
        servers, own, began = cpu_s(*self._servers), time.process_time(), time.perf_counter() - _queued_s()
        work()
        took = time.perf_counter() - _queued_s() - began, time.process_time() - own
        return Used(*took, cpu_s(*self._servers) - servers)


def _queued_s() -> float:
    """Return how long this thread has waited for a core (https://docs.kernel.org/scheduler/sched-stats.html)."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:  # a kernel without CONFIG_SCHED_INFO
        return 0.0


def landed(
    config: LandConfig, lake: Lake, meter: Meter, done: Callable[[], bool], begun: Callable[[], bool] | None = None
) -> tuple[Used, list[Used]]:
    """Land until ``done``; return everything used, and what each transaction used, since ``begun``.

    What happens once (the first fetch, the first allocation of a whole batch) is before ``begun``.
    """
    inside: list[Used] = []
    append = lake.append

    def watched(batches: Mapping[str, Any], moves: Sequence[Move]) -> None:
        inside.append(meter.of(lambda: append(batches, moves)))

    with Land(config, lake, threading.Event(), now=now_us, heartbeat=lambda facts: None) as stage:
        stage.start()
        _until(stage.step, begun or (lambda: True))
        lake.append = watched  # type: ignore[method-assign]
        whole = meter.of(lambda: _until(stage.step, done))
        lake.append = append  # type: ignore[method-assign]
    return whole, inside


def _until(step: Callable[[], None], done: Callable[[], bool]) -> None:
    while not done():
        step()


def _total(used: list[Used]) -> Used:
    return sum(used, Used())


def _ends(kafka: KafkaConfig, topic: str) -> dict[tuple[str, int], int]:
    source = Source(kafka, [topic])
    try:
        return {(topic, p): high for p, (_, high) in source.partitions(topic).items()}
    finally:
        source.close()


class Units:
    """The measurements of one child, in order: each leaves the topic that the next one reads."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.kafka = KafkaConfig(options.bootstrap, options.prefix)
        self.topic = options.prefix + EVENTS
        self.meter = Meter(options.servers)
        self.folder = Path(options.folder)
        self.found: dict[str, float] = {"events": options.events}

    def run(self) -> dict[str, float]:
        """Measure everything."""
        lake = LakeConfig(self.options.catalog, str(self.folder / "data"))
        with Lake.open(lake, now=now_us) as opened:
            self.land_events(opened)
            self.meter_events()
            if self.options.rollups:
                self.land_rollups(opened)
        if self.options.rollups:
            self.detect()
        return self.found

    def land_events(self, lake: Lake) -> None:
        """A first commit for what happens once a life, small ones for the fixed part, then the backlog."""
        config = LandConfig(self.kafka, lake.config, group=None, batch_rows=self.options.land_rows)
        small = [calls(200, self.options.apps, f"small{n}") for n in range(SMALL + 1)]
        quick = LandConfig(self.kafka, lake.config, group=None, batch_wait_s=0.05)
        commits = []
        for lines in small:
            produce(lines, self.options.bootstrap, self.topic, self.options.partitions)
            commits.append(_total(landed(quick, lake, self.meter, self._at_end(lake, EVENTS))[1]))
        lines = calls(self.options.events, self.options.apps, "backlog")
        before = size(self.folder, "data/main/raw_calls/**/*.parquet")
        self.found["broker_in_s"] = self.meter.of(
            lambda: produce(lines, self.options.bootstrap, self.topic, self.options.partitions)
        ).servers_s
        first = sum(lake.ledger().get(at, 0) for at in _ends(self.kafka, EVENTS)) + self.options.land_rows
        last = sum(_ends(self.kafka, EVENTS).values())
        begun: list[int] = []

        def whole_batch_landed() -> bool:
            position = sum(lake.ledger().get(at, 0) for at in _ends(self.kafka, EVENTS))
            begun[:] = [position]
            return position >= first

        whole, inside = landed(config, lake, self.meter, self._at_end(lake, EVENTS), whole_batch_landed)
        commit = _total(inside)
        fixed = sorted(used.wall_s for used in commits[1:])[SMALL // 2]
        self.found |= {
            "event_bytes": sum(map(len, lines)) / len(lines),
            "lake_bytes": (size(self.folder, "data/main/raw_calls/**/*.parquet") - before) / len(lines),
            "land_commits": len(inside),
            "land_events": last - begun[0],
            "commit_wall_s": fixed,
            "commit_cpu_s": sorted(used.own_s + used.servers_s for used in commits[1:])[SMALL // 2],
            **_named("land", whole),
            **_named("land_inside", commit),
            "land_mb": psutil.Process().memory_info().rss / 2**20,
        }

    def meter_events(self) -> None:
        """The same topic through meter, between the first records and the last whole batch.

        A batch that is not full waits for more records, which a backlog does not make it do.
        """
        config = MeterConfig(self.kafka, batch_rows=self.options.meter_rows)
        session = _Session(config, None, threading.Event(), now_us, lambda facts: None)
        ends = sum(_ends(self.kafka, EVENTS).values())

        def position() -> int:
            return sum(session._source.positions().values())

        _until(session.step, lambda: position() >= ends * 0.15)
        first, messages = position(), self._messages()
        used = self.meter.of(lambda: _until(session.step, lambda: position() >= ends - self.options.meter_rows))
        last, made = position(), self._messages()
        session.close()
        self.found |= {
            **_named("meter", used),
            "meter_events": last - first,
            "meter_messages": made - messages,
        }

    def land_rollups(self, lake: Lake) -> None:
        """What meter made, into the lake."""
        before = size(self.folder, "data/main/rollups/**/*.parquet")
        config = LandConfig(self.kafka, lake.config, group=None, batch_rows=self.options.land_rows)
        whole, inside = landed(config, lake, self.meter, self._at_end(lake, ROLLUPS))
        rows = lake.query("SELECT count(*) AS n FROM rollups").to_pylist()[0]["n"]
        self.found |= {
            "rollup_rows": rows,
            **_named("rollups", whole),
            **_named("rollups_inside", _total(inside)),
            "rollups_commits": len(inside),
            "rollups": self._messages(),
            "row_bytes": (size(self.folder, "data/main/rollups/**/*.parquet") - before) / rows,
        }

    def detect(self) -> None:
        """The same rollups through the judge, partition by partition; ticks only close what was read."""
        source = Source(self.kafka, [ROLLUPS])
        ends = _ends(self.kafka, ROLLUPS)
        source.assign(dict.fromkeys(ends, 0))
        records = []
        while any(source.positions()[at] < end for at, end in ends.items()):
            for batch in source.poll():
                records += list(batch.rows())
        source.close()
        rollups = [record for record in records if dict(record.headers).get(H_KIND) != b"tick"]
        states: dict[int, PartitionState] = {}
        judge = Judge()
        gc.collect()
        before = psutil.Process().memory_info().rss

        def read(some: list[Record]) -> None:
            for record in some:
                state = states.setdefault(record.partition, PartitionState())
                states[record.partition], _ = judge.step(state, record)

        # what makes the state of an app, once, is in the first half
        rollups.sort(key=lambda record: record.offset)
        half = len(rollups) // 2
        read(rollups[:half])
        used = self.meter.of(lambda: read(rollups[half:]))
        grown = psutil.Process().memory_info().rss - before
        self.found |= {
            "detect_s": used.own_s,
            "detect_messages": len(rollups) - half,
            "detect_rows": sum(decode(record.value).num_rows for record in rollups[half:] if record.value is not None),
            "detect_apps": sum(len(state.apps) for state in states.values()),
            "detect_grown_mb": grown / 2**20,
        }

    def _at_end(self, lake: Lake, topic: str) -> Callable[[], bool]:
        ends = _ends(self.kafka, topic)
        return lambda: all(lake.ledger().get(at, 0) >= end for at, end in ends.items())

    def _messages(self) -> int:
        return sum(_ends(self.kafka, ROLLUPS).values())


def _named(name: str, used: Used) -> dict[str, float]:
    return {f"{name}_wall_s": used.wall_s, f"{name}_own_s": used.own_s, f"{name}_servers_s": used.servers_s}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "prefix", "catalog", "folder"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("events", "apps", "partitions", "land-rows", "meter-rows"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rollups", action="store_true", help="measure what is done with rollups, too")
    parser.add_argument("--servers", type=int, nargs="+", required=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    sys.stdout.write(json.dumps(Units(parser.parse_args()).run()) + "\n")


if __name__ == "__main__":
    main()
