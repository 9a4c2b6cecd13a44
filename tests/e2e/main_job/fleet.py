"""Copies of the stages on PostgreSQL and a bucket, each with a home as on a machine of its own, and readers beside."""

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_harness.cast import POINTS, READY
from fault_harness.mirror import Mirror
from fault_harness.process import Command, Process, stage, wait_until
from fault_harness.rawlake import RawLake

from main_job.life import COMMAND, PARTITIONS, Life
from pipelines.kafka import Admin, KafkaConfig
from schemas.topics import TOPICS
from tailrace.demo.receiver import Receiver, listening

Copy = tuple[str, str]
"""(stage, name of the copy)."""
COPIES: tuple[Copy, ...] = (
    *(("land", name) for name in "ab"),
    *(("meter", name) for name in "ab"),
    *(("detect", name) for name in "ab"),
    ("notify", "a"),
)
COUNTED = "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM calls"


class Fleet(Life):
    """What ``tailrace up`` would be on several machines; a copy that dies is started again at once."""

    def __init__(self, bootstrap: str, home: Path, receiver: Receiver, catalog: str, mirror: Mirror) -> None:
        super().__init__(bootstrap, home, receiver)
        self._catalog, self._mirror = catalog, mirror
        self.environment |= {
            **mirror.bucket.environment,
            "TAILRACE_LAKE__CATALOG": catalog,
            "TAILRACE_LAND__BATCH_WAIT_S": "0.5",
            # each home would make a key of its own, and give a user another pseudonym
            "TAILRACE_USER_MODE": "plain",
        }
        self.running: dict[Copy, Process] = {}
        self.kinds: Counter[str] = Counter()
        """How copies were killed."""
        self._lock = threading.RLock()

    def start(self) -> None:
        Admin(KafkaConfig(self.bootstrap, self.prefix)).create_topics(TOPICS, partitions=PARTITIONS)
        for copy in COPIES:
            self._start_copy(copy)

    @property
    def lake(self) -> RawLake:
        return self._mirror.lake(self._catalog)

    def ready(self, within_s: float = 200) -> None:
        def met() -> bool:
            self.revive()
            return all(READY[name] in process.said for (name, _), process in self.running.items())

        wait_until(met, within_s, "every copy runs", self.tails)

    def kill(self, copy: Copy, rng: random.Random) -> None:
        """Kill a copy now, or start it again so that it kills itself at a drawn point of its code."""
        name, _ = copy
        with self._lock:
            self.running[copy].kill()
            plan = f"{name}.{rng.choice(POINTS[name])}:kill:{rng.randint(1, 3)}" if rng.random() < 0.5 else ""
            self.kinds[f"{name} at a moment"] += 1
            self._start_copy(copy, plan)

    def revive(self) -> None:
        """Start again what its crash plan has ended; nothing else may end by itself."""
        with self._lock:
            for copy, process in list(self.running.items()):
                if not process.alive:
                    code = process.ended()
                    assert code == -signal.SIGKILL, f"{copy} ended with {code}\n{process.tail()}"
                    self.kinds[f"{copy[0]} at a point"] += 1
                    self._start_copy(copy)

    def settle(self, alerts: Any, within_s: float) -> None:
        def met() -> bool:
            self.revive()
            return bool(alerts())

        super().settle(met, within_s)

    def _landed(self) -> bool:
        self.revive()
        return super()._landed()

    def stop(self) -> None:
        for process in self.running.values():
            process.popen.terminate()
        for copy, process in self.running.items():
            code = process.ended(30)
            assert code == 0, f"{copy} ended with {code}\n{process.tail()}"

    def close(self) -> None:
        for process in self.running.values():
            process.kill()

    def tails(self) -> str:
        return "\n".join(process.tail() for process in self.running.values())

    def _start_copy(self, copy: Copy, fault: str = "") -> None:
        name, which = copy
        home = self.home.path / which
        home.mkdir(exist_ok=True)
        more = {"TAILRACE_HOME": str(home), "TAILRACE_FAULT": fault}
        if name != "notify":
            more["TAILRACE_COPY_NAME"] = which
        self.running[copy] = stage(name, home, {**self.environment, **more})


@contextmanager
def fleet(bootstrap: str, home: Path, catalog: str, mirror: Mirror) -> Iterator[Fleet]:
    """All copies for the length of the block."""
    home.mkdir(parents=True, exist_ok=True)
    with listening(Receiver()) as receiver:
        running = Fleet(bootstrap, home, receiver, catalog, mirror)
        try:
            running.start()
            yield running
        finally:
            running.close()


@contextmanager
def killing(running: Fleet, *, seed: int, every_s: float) -> Iterator[None]:
    """Kill one copy after the other while the block runs, in a drawn order, at drawn moments."""
    rng, finished = random.Random(f"kills-{seed}"), threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            while True:
                for copy in rng.sample(COPIES, len(COPIES)):
                    if finished.wait(rng.uniform(0.3, 1.7) * every_s):
                        return
                    running.revive()
                    running.kill(copy, rng)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=run, name="killer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
    if errors:
        raise errors[0]


@dataclass
class Readers:
    """``tailrace sql`` again and again, several at a time, each with a home of its own."""

    environment: Mapping[str, str]
    home: Path
    answers: list[int] = field(default_factory=list)
    """Calls that each answer counted."""
    errors: list[BaseException] = field(default_factory=list)

    @contextmanager
    def reading(self, count: int) -> Iterator[None]:
        """``count`` readers while the block runs; each sees every call once, and never fewer than before."""
        finished = threading.Event()
        threads = [threading.Thread(target=self._run, args=(f"reader{n}", finished)) for n in range(count)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            finished.set()
            for thread in threads:
                thread.join()
        if self.errors:
            raise self.errors[0]

    def _run(self, name: str, finished: threading.Event) -> None:
        try:
            before = 0
            while not finished.is_set():
                before = self._ask(name, before)
                time.sleep(0.2)
        except BaseException as error:  # noqa: BLE001 - raised again by `reading`
            self.errors.append(error)

    def _ask(self, name: str, before: int) -> int:
        home = self.home / name
        home.mkdir(exist_ok=True)
        environment = {**self.environment, "TAILRACE_HOME": str(home)}
        asked = Command(name, [*COMMAND, "sql", "--format", "json", COUNTED], home / "log", environment)
        code = asked.ended(120)
        assert code == 0, f"{name} ended with {code}\n{asked.tail()}"
        found = json.loads(asked.said.splitlines()[-1])
        assert found["n"] == found["ids"], f"{name} saw a call twice: {found}"
        assert found["n"] >= before, f"{name} saw {found['n']} calls after {before}"
        self.answers.append(found["n"])
        return int(found["n"])
