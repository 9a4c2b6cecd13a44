"""A seeded random program of faults against a model: "mini-Zippy", after FoundationDB's and MongoDB's.

    python tests/faults/zippy.py --seconds 600 [--seed N]
    python tests/faults/zippy.py --actions FAILED.json        the sequence of a failure, or a part of it

It emits good, bad, duplicate and late events; kills, freezes and continues land and meter; freezes and kills the
broker; adds partitions, merges files, expires snapshots, alters tables and holds the catalog's lock. Every so often it
lets all come to rest and checks P O L M R, the landed rollups and ``tailrace verify`` against what was acknowledged.
A failure prints the seed and writes its actions beside the temporary folder, which stays.
"""

import argparse
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[2]
sys.path.insert(0, str(REPO / "emitter"))
sys.path.insert(0, str(REPO))
sys.path.insert(0, str(Path(__file__).parent))

from fault_harness.process import Process, wait_until
from fault_harness.scene import Scene

from schemas.topics import EVENTS
from tailrace.broker import Broker
from tailrace.stages import wall
from warehouse.lake import Lake

Action = list[Any]
STAGES = ("land", "meter")
MAX_PARTITIONS = 8
REST_S = 180.0
"""Added partitions are looked for once a minute."""
MERGED = ("raw_calls", "dead", "dead_bytes", "rollups", "ticks")
DAY_MS = 86_400_000
BAD = (b"", b"null", b"{", b"[1]", b'{"v":1,"type":"call"}', b"\xff\xfe", b'{"v":1,"type":"spam","id":"x"}')


class Program:
    """The system and its model; an action is a list of a name and plain arguments, so that it can be replayed."""

    def __init__(self, folder: Path) -> None:
        self.broker = Broker(folder / "broker", heap_mb=384)
        self.broker.start()
        self.scene = Scene(
            self.broker.bootstrap, folder / "home", partitions=2, settings={"TAILRACE_LAND__DEAD_RATIO_LIMIT": "1"}
        )
        self.partitions = 2
        self.altered = 0
        self._by_id: dict[str, dict[str, Any]] = {}
        self.running: dict[str, Process] = {name: self.scene.start(name) for name in STAGES}
        self.stopped: set[str] = set()

    def good(self, seed: int, count: int) -> None:
        self._send(seed, count)

    def late(self, seed: int, count: int, days: int) -> None:
        self._send(seed, count, ts=int(time.time() * 1000) - days * DAY_MS)

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
        self.scene.kills += 1

    def start(self, name: str) -> None:
        if not self.running[name].alive:
            self.stopped.discard(name)
            self.running[name] = self.scene.start(name)

    def crash(self, name: str, point: str, nth: int) -> None:
        """Start a stage that will die at a point of its code."""
        self.kill(name)
        self.running[name] = self.scene.start(name, fault=f"{name}.{point}:kill:{nth}")
        self.stopped.discard(name)

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
            fine = code == 0 or _unborn(self.running[name], code)
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
            self.scene.admin.add_partitions(EVENTS, self.partitions)
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
        if self._made():
            self.altered += 1
            sql = f"ALTER TABLE raw_calls ADD COLUMN zippy_{self.altered} INTEGER"
            with self._bulk() as lake:
                lake.transact(lambda connection: connection.execute(sql))

    def merge(self, table: str) -> None:
        if self._made():
            self._call(f"CALL ducklake_merge_adjacent_files('lake', '{table}')")

    def expire(self) -> None:
        if self._made():
            self._call("CALL ducklake_expire_snapshots('lake', older_than => now() - INTERVAL 1 SECOND)")
            self._call("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)")

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
        self.scene.check()

    def close(self) -> None:
        self.scene.close()
        self.broker.stop()

    def _send(self, seed: int, count: int, **fields: Any) -> None:
        for event in self.scene.traffic.good(count, random.Random(seed), **fields):
            self._by_id[event["id"]] = event

    def _revive(self) -> None:
        for name in STAGES:
            process = self.running[name]
            if not process.alive:
                code = process.ended()
                assert code in (-9, 0) or _unborn(process, code), f"{name} ended with {code}\n{process.tail()}"
                self.start(name)

    def _made(self) -> bool:
        return bool(self.scene.lake.ledger())

    def _bulk(self) -> Lake:
        return Lake.open(self.scene.lake_config, now=wall, lander=False)

    def _call(self, sql: str) -> None:
        """Maintain, as a job would: under the bulk lock, again after a conflict."""
        with self._bulk() as lake:
            for tries in range(20):
                try:
                    with lake.bulk_lock():
                        lake.connection.execute(sql)
                    return
                except Exception as error:
                    if tries == 19 or not any(w in str(error).lower() for w in ("locked", "conflict", "busy")):
                        raise
                    time.sleep(0.2)


def _unborn(process: Process, code: int) -> bool:
    """Whether it was asked to end while it still imported: no handler stands yet, and there is nothing to finish."""
    return code == -15 and not process.said


def choose(rng: random.Random, step: int) -> Action:
    """Draw the next action."""
    name = rng.choice(STAGES)
    points = {
        "land": ("after_poll", "after_insert", "before_commit", "after_commit"),
        "meter": ("before_produce", "before_commit", "after_commit"),
    }
    drawn: dict[str, tuple[int, Callable[[], Action]]] = {
        "good": (30, lambda: [rng.getrandbits(32), rng.randint(1, 400)]),
        "bad": (8, lambda: [rng.getrandbits(32), rng.randint(1, 5)]),
        "again": (8, lambda: [rng.getrandbits(32), rng.randint(1, 20)]),
        "late": (5, lambda: [rng.getrandbits(32), rng.randint(1, 20), rng.choice((1, 3, 400, -1))]),
        "sleep": (14, lambda: [round(rng.uniform(0.05, 1.5), 2)]),
        "kill": (6, lambda: [name]),
        "crash": (5, lambda: [name, rng.choice(points[name]), rng.randint(1, 3)]),
        "start": (12, lambda: [name]),
        "stop": (4, lambda: [name]),
        "cont": (7, lambda: [name]),
        "term": (2, lambda: [name]),
        "freeze_broker": (2, lambda: [round(rng.uniform(0.5, 8), 1)]),
        "kill_broker": (1, list),
        "add_partition": (1, list),
        "lock": (2, lambda: [round(rng.uniform(0.2, 7), 1)]),
        "alter": (1, list),
        "merge": (4, lambda: [rng.choice(MERGED)]),
        "expire": (1, list),
    }
    if step % 40 == 39:
        return ["validate"]
    which = rng.choices(list(drawn), [weight for weight, _ in drawn.values()])[0]
    return [which, *drawn[which][1]()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--actions", type=Path, default=None, help="replay these instead of drawing")
    said = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if said.seed is None else said.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tailrace-zippy-"))
    done: list[Action] = []
    rng = random.Random(seed)
    given = json.loads(said.actions.read_text()) if said.actions else None
    end = time.monotonic() + said.seconds
    program = Program(folder)
    try:
        while (len(done) < len(given)) if given is not None else time.monotonic() < end:
            action = given[len(done)] if given is not None else choose(rng, len(done))
            done.append(action)
            if action[0] == "validate":
                sent = program.scene.traffic.sent
                print(f"{len(done)} actions, {len(sent.positions)} events, {program.scene.kills} kills", flush=True)
            getattr(program, action[0])(*action[1:])
        program.validate()
    except BaseException:
        failed = folder / "actions.json"
        failed.write_text(json.dumps(done))
        print(f"FAILED with seed {seed} at action {len(done)}: {done[-1]}", flush=True)
        print(f"replay: python tests/faults/zippy.py --actions {failed}", flush=True)
        raise
    finally:
        program.close()
    sent = program.scene.traffic.sent
    facts = {"actions": len(done), "events": len(sent.positions), "bad": sent.bad, "kills": program.scene.kills}
    print(json.dumps({"seed": seed, "ok": True, **facts}))
    shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
