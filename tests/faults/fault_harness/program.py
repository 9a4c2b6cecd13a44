"""The system under a random program, and the model it is compared with: one method for each action.

An action is a list of a method's name and plain arguments, so that what was drawn can be replayed and shortened.
"""

import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from fault_harness import alerts
from fault_harness.process import Process, killer, wait_until
from fault_harness.receiver import Receiver
from fault_harness.rest import rest
from fault_harness.scene import Scene
from fault_harness.traffic import past, spike
from pipelines.clock import now_us
from schemas.errors import TailraceError
from schemas.topics import EVENTS
from tailrace.broker import Broker
from tailrace.home.layout import Home
from warehouse.lake import Lake
from warehouse.upkeep import Pace, clean_old_files, expire_snapshots, merge

Action = list[Any]
STAGES = ("land", "meter", "detect", "notify")
MAX_PARTITIONS = 8
SILENT_S = 60.0
"""What the supervisor of `up` takes for hung."""
REST_S = 300.0
"""Added partitions are looked for once a minute; a Faust that hangs at its start falls silent after 90 s."""
DAY_MS = 86_400_000
BAD = (b"", b"null", b"{", b"[1]", b'{"v":1,"type":"call"}', b"\xff\xfe", b'{"v":1,"type":"spam","id":"x"}')
APPS = 8
"""Apps with a past, in which a spike rings; each stays quiet for ten minutes after it has rung."""
PAST_S = 45 * 60
SETTLED_S = 20.0
"""No transaction takes so long: what is older belongs to none in flight."""
AGED = timedelta(days=4)
"""Farther back than the guards of maintain: snapshots 1 hour, files 2 days by whole days."""


class Program:
    """The system and its model."""

    def __init__(self, folder: Path) -> None:
        self.receiver = Receiver(refuse=0.2)
        self.broker = Broker(folder / "broker", heap_mb=384)
        self.broker.start()
        self.scene = Scene(
            self.broker.bootstrap,
            folder / "home",
            partitions=2,
            settings={"TAILRACE_LAND__DEAD_RATIO_LIMIT": "1", **self.receiver.settings},
        )
        self.partitions = 2
        self.altered = 0
        self.told = 0
        """Alerts that were expected when they were last compared."""
        self.kept: Counter[str] = Counter()
        """What maintain and its parts have done."""
        self._by_id: dict[str, dict[str, Any]] = {}
        self._past()
        self.running: dict[str, Process] = {name: self.scene.start(name) for name in STAGES}
        self.stopped: set[str] = set()

    def good(self, seed: int, count: int) -> None:
        self._send(seed, count)

    def late(self, seed: int, count: int, days: int) -> None:
        self._send(seed, count, ts=int(time.time() * 1000) - days * DAY_MS)

    def spike(self, seed: int, count: int, app: int) -> None:
        """Send calls ten times as dear as those of the app's past, all at once."""
        self._send_all(spike(seed, count, app))

    def bad(self, seed: int, count: int) -> None:
        rng = random.Random(seed)
        for _ in range(count):
            self.scene.traffic.send(rng.choice(BAD), partition=rng.randrange(self.partitions), bad=True)

    def again(self, seed: int, count: int) -> None:
        """Send known events once more, to the partition where they are."""
        sent = self.scene.traffic.sent
        known = [(at[0], event) for at, event in sorted(sent.positions.items()) if event]
        for partition, event in random.Random(seed).sample(known, min(count, len(known))):
            self.scene.traffic.send(self._by_id[event], partition=partition)

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.stopped.discard(name)
        self.scene.kills += 1

    def start(self, name: str) -> None:
        if not self.running[name].alive:
            self._begin(name)

    def crash(self, name: str, point: str, nth: int) -> None:
        """Start a stage that will die at a point of its code."""
        self.kill(name)
        self._begin(name, f"{name}.{point}:kill:{nth}")

    def answer(self) -> None:
        """Kill notify between the next request and its answer."""
        self.start("notify")
        pid = self.running["notify"].pid

        def strike() -> None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        self.receiver.strike = strike

    def dies(self, name: str) -> None:
        """Wait until what was planned for ``name`` has happened, and start it again."""
        wait_until(lambda: not self.running[name].alive, REST_S, f"{name} dies as planned", self.scene.tails)
        self.start(name)

    def stop(self, name: str) -> None:
        if self.running[name].alive:
            self.running[name].stop()
            self.stopped.add(name)

    def cont(self, name: str) -> None:
        if name in self.stopped and self.running[name].alive:
            self.running[name].cont()
        self.stopped.discard(name)

    def term(self, name: str) -> None:
        self.cont(name)
        if self.running[name].alive:
            code = self.running[name].terminate(30)
            fine = code in (0, -9) or _unborn(self.running[name], code)  # -9: a planned crash was first
            assert fine, f"{name} ended with {code} when asked to end\n{self.running[name].tail()}"

    def freeze_broker(self, seconds: float) -> None:
        self.broker.pause()
        time.sleep(seconds)
        self.broker.resume()

    def kill_broker(self) -> None:
        self.broker.kill()
        self.broker.start(60)

    def add_partition(self) -> None:
        if self.partitions < MAX_PARTITIONS:
            self.scene.traffic.flush()
            self.partitions += 1
            wait_until(self._grown, 60, "the topic has grown", self.scene.tails)
            self.scene.traffic.knows(self.partitions)

    def lock(self, seconds: float) -> None:
        """Hold the catalog's write lock, as a stranger would."""
        holder = sqlite3.connect(self.scene.catalog, isolation_level=None, timeout=30)
        try:
            holder.execute("BEGIN IMMEDIATE")
            time.sleep(seconds)
            holder.execute("ROLLBACK")
        finally:
            holder.close()

    def alter(self) -> None:
        if self._free():
            self.altered += 1
            sql = f"ALTER TABLE raw_calls ADD COLUMN zippy_{self.altered} INTEGER"
            with self._bulk() as lake:
                lake.transact(lambda connection: connection.execute(sql))

    def age(self) -> None:
        """Let days pass for all snapshots, old files and orphans that no transaction in flight can need."""
        if not self._free():
            return
        db = sqlite3.connect(self.scene.catalog, isolation_level=None, timeout=30)
        try:
            db.execute("BEGIN IMMEDIATE")
            for table, column in (
                ("ducklake_snapshot", "snapshot_time"),
                ("ducklake_files_scheduled_for_deletion", "schedule_start"),
            ):
                for row, said in db.execute(f"SELECT rowid, {column} FROM {table}").fetchall():
                    if (aged := _aged(said)) is not None:
                        db.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (aged, row))
            db.execute("COMMIT")
        finally:
            db.close()
        for orphan in self.scene.lake.orphans():
            with suppress(FileNotFoundError):  # a transaction that was rolled back took it along
                at = orphan.stat().st_mtime
                if time.time() - at > SETTLED_S:
                    os.utime(orphan, (at, at - AGED.total_seconds()))

    def maintain(self) -> None:
        """Run the job as people do, to its end."""
        if self._free():
            job = self._job()
            code = job.ended(120)
            assert code == 0, f"maintain ended with {code}\n{job.tail()}"
            self.kept["maintained"] += 1

    def kill_maintain(self, call: str, suffix: str, nth: int) -> None:
        """Run the job and kill it at a system call: on the catalog, or, with no suffix, on any file."""
        if not self._free():
            return
        job = self._job()
        try:
            with killer(job, call, f"{self.scene.catalog}{suffix}" if call != "unlink" else "", nth):
                wait_until(lambda: not job.alive, 120, "maintain ends, or is killed", job.tail)
        except AssertionError:
            if job.alive:
                raise
        code = job.ended()
        assert code in (0, -9), f"maintain ended with {code}\n{job.tail()}"
        self.scene.kills += code == -9
        self.kept["maintain killed" if code else "maintained"] += 1

    def merge(self, table: str) -> None:
        if self._free():
            with self._bulk() as lake:
                merged = merge(Pace(lake), table)
            self.kept["files merged"] += merged.files_before - merged.files_after

    def expire(self) -> None:
        """Forget what ``age`` has made old."""
        if self._free():
            now = datetime.now(UTC)
            with self._bulk() as lake:
                self.kept["snapshots expired"] += expire_snapshots(Pace(lake), before=now - timedelta(hours=1))
                self.kept["files removed"] += clean_old_files(Pace(lake), before=now - timedelta(days=2))

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def validate(self) -> None:
        """Let all come to rest and compare with the model."""
        for name in STAGES:
            self.cont(name)
        deadline = time.monotonic() + REST_S
        self.scene.traffic.flush(120)
        while not self.scene.caught_up():
            self._revive()
            assert time.monotonic() < deadline, f"not at rest within {REST_S:g} s\n{self.scene.tails()}"
            time.sleep(0.1)

        def counted() -> bool:
            self._revive()
            try:
                self.scene.metered(0)
            except AssertionError as error:
                if "rollups count" in str(error):
                    raise
                return False
            return True

        wait_until(counted, REST_S, "rollups equal the model", self.scene.tails)
        rest(self.scene, self.running, self._revive, REST_S)
        self.scene.check()
        self.told = len(alerts.told_right(self.scene.lake, self.receiver).expected)
        self.start("meter")

    def close(self) -> None:
        self.scene.close()
        self.broker.stop()
        self.receiver.close()

    def _begin(self, name: str, fault: str = "") -> None:
        self.stopped.discard(name)
        if name == "notify":  # what was to kill it means the one before
            self.receiver.strike = None
        self.running[name] = self.scene.start(name, fault=fault)

    def _past(self) -> None:
        """Let every app have one, as long as it must be known."""
        self._send_all(past(PAST_S, APPS))
        self.scene.traffic.flush(120)

    def _send_all(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            self._by_id[event["id"]] = event
            self.scene.traffic.send(event)

    def _send(self, seed: int, count: int, **fields: Any) -> None:
        for event in self.scene.traffic.good(count, random.Random(seed), **fields):
            self._by_id[event["id"]] = event

    def _revive(self, *names: str) -> None:
        """Start what has ended, and kill what is silent, as the supervisor of `up` would: Faust hangs at times."""
        for name in names or STAGES:
            process = self.running[name]
            if process.alive and name not in self.stopped and self._silent_s(process) > SILENT_S:
                process.kill()
                self.kept["stalls"] += 1
            if not process.alive:
                code = process.ended()
                assert code in (-9, 0) or _unborn(process, code), f"{name} ended with {code}\n{process.tail()}"
                self.start(name)

    def _silent_s(self, process: Process) -> float:
        """How long ago a stage has beaten; 0 before its first beat in this life."""
        said = self.scene.facts(process.name)
        if said.get("pid") != process.pid:
            return 0.0
        return (time.time_ns() - Home(self.scene.home).last_heartbeat_ns(process.name)) / 1e9

    def _grown(self) -> bool:
        """Ask for partitions until they are there: a broker that was just killed does not answer at once."""
        try:
            if self.scene.admin.partitions(EVENTS) < self.partitions:
                self.scene.admin.add_partitions(EVENTS, self.partitions)
        except (TailraceError, KafkaException):  # "all brokers are currently fenced" is one of the fatal ones
            return False
        return True

    def _free(self) -> bool:
        """Whether there is a lake, and nobody frozen who may hold its lock or have files in flight."""
        return bool(self.scene.lake.ledger()) and "land" not in self.stopped

    def _bulk(self) -> Lake:
        return Lake.open(self.scene.lake_config, now=now_us, lander=False)

    def _job(self) -> Process:
        log = Home(self.scene.home).log_file("maintain")
        job = Process("maintain", ["job", "run", "maintain"], log, self.scene.environment())
        self.scene.processes.append(job)
        return job


def _unborn(process: Process, code: int) -> bool:
    """Whether it was asked to end while it still imported: no handler stands yet, and there is nothing to finish."""
    return code == -signal.SIGTERM and not process.said


def _aged(said: str) -> str | None:
    """The same text four days earlier; None for what is too young."""
    at = datetime.fromisoformat(said)
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if datetime.now(UTC) - at < timedelta(seconds=SETTLED_S):
        return None
    return f"{at.date() - AGED:%Y-%m-%d}{said[10:]}"
