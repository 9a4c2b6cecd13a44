"""One Tailrace as people start it: ``tailrace up`` as a process, a webhook receiver, and what went in."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka as ck
from fault_harness.rawlake import RawLake

from main_job.hour import SECOND, Bad, Hour
from schemas.topics import EVENTS, SAMPLES
from tailrace.demo.receiver import Receiver, listening
from tailrace.home.layout import Home
from tailrace.supervisor.stages import STAGES

REPO = Path(__file__).parents[3]
PARTITIONS = 4
COMMAND = (sys.executable, "-m", "tailrace")


class Life:
    """Home, topics of its own, everything that was acknowledged: (partition, offset) -> call id or what was bad."""

    def __init__(self, bootstrap: str, home: Path, receiver: Receiver) -> None:
        self.home = Home(home)
        self.bootstrap = bootstrap
        self.prefix = f"e-{uuid.uuid4().hex[:8]}."
        self.receiver = receiver
        self.sent: dict[tuple[int, int], str | Bad] = {}
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") or k == "TAILRACE_CACHE"},
            "TAILRACE_HOME": str(home),
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "TAILRACE_KAFKA__PREFIX": self.prefix,
            "TAILRACE_KAFKA__PARTITIONS": str(PARTITIONS),
            # an hour in seconds: sample as if it were an hour
            "TAILRACE_METER__SAMPLES_PER_S": "100000",
            "TAILRACE_ALERT_CHANNELS": json.dumps([receiver.url]),
            "TAILRACE_WEBHOOK_SECRET": receiver.secret,
            "TAILRACE_WEBHOOK_ALLOW_HOSTS": receiver.url.split("/")[2],
        }

    def start(self) -> None:
        """``tailrace up``."""
        with self.home.log_file("up").open("ab") as out:
            self.up = subprocess.Popen(
                [*COMMAND, "up", "--no-web"],
                cwd=REPO,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

    @property
    def lake(self) -> RawLake:
        """The lake as any other engine sees it."""
        return RawLake(str(self.home.catalog), self.home.data_path)

    def tailrace(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=REPO,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def publish(self, hour: Hour, *, speed: float) -> None:
        """Send the hour ``speed`` times faster than it was; returns when all is acknowledged."""
        producer = ck.Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.max.bytes": 4 << 20,
                "partitioner": "murmur2_random",
                "log_level": 0,
            }
        )
        began = time.monotonic()
        failed: list[str] = []
        for message in hour.messages:
            if (wait := began + message.after / SECOND / speed - time.monotonic()) > 0.002:
                producer.poll(0)
                time.sleep(wait)
            what = message.bad or str((message.call or {})["id"])

            def acknowledged(error: ck.KafkaError | None, kept: ck.Message, what: str | Bad = what) -> None:
                if error is not None:
                    failed.append(str(error))
                else:
                    partition, offset = kept.partition(), kept.offset()
                    assert partition is not None
                    assert offset is not None
                    self.sent[partition, offset] = what

            producer.produce(self.prefix + EVENTS, message.value, message.key, on_delivery=acknowledged)
            producer.poll(0)
        assert producer.flush(60) == 0
        assert not failed, failed[:3]

    def status(self) -> dict[str, Any]:
        """What every stage last said of itself."""
        return {stage.name: self.home.read_run(stage.name) or {} for stage in STAGES}

    def ready(self, within_s: float = 200) -> None:
        """Wait until every stage runs."""
        told = self.tailrace("status", "--json", "--wait", str(within_s))
        assert told.returncode == 0, f"{told.stdout}{told.stderr}\n{self.tails()}"

    def settle(self, alerts: Callable[[], bool], within_s: float) -> None:
        """Wait until all events and their rollups are in the lake and ``alerts`` is met.

        ``within_s`` starts again as long as drift reads texts: how fast it embeds is the machine's affair.
        """
        deadline, read = time.monotonic() + within_s, self._texts_read()
        for what, met in (("events", self._landed), ("rollups", self._rolled_up), ("alerts", alerts)):
            while not met():
                if (now_read := self._texts_read()) != read:
                    deadline, read = time.monotonic() + within_s, now_read
                assert time.monotonic() < deadline, (
                    f"no more {what} after {within_s:g} s\n{self.said()}\n{self.tails()}"
                )
                time.sleep(0.2)

    def _texts_read(self) -> dict[str, int]:
        """Next offset of drift in each partition of llm.samples."""
        position = self.status()["drift"].get("facts", {}).get("position", {})
        return {place: offset for place, offset in position.items() if place.startswith(SAMPLES)}

    def said(self) -> str:
        """The alerts that arrived, a line each."""
        lines = [f"{a.detector} {a.rule} {a.state} {a.series} {a.title}" for a in self.receiver.alerts]
        return "\n".join(["alerts:", *lines])

    def tails(self) -> str:
        """The ends of all logs."""
        logs = {name: self.home.log_file(name) for name in ("up", *(s.name for s in STAGES))}
        tails = [
            f"--- {name} ---\n" + "\n".join(log.read_text().splitlines()[-8:])
            for name, log in logs.items()
            if log.exists()
        ]
        return "\n".join([*tails, json.dumps(self.status(), default=str)])

    def stop(self) -> None:
        """SIGTERM, as people end it: all has ended ten seconds later, and says so by exit code 0."""
        self.up.terminate()
        assert self.up.wait(20) == 0, self.tails()

    def tops(self) -> dict[int, int]:
        """Partition -> end of what was acknowledged."""
        found: dict[int, int] = {}
        for partition, offset in self.sent:
            found[partition] = max(found.get(partition, 0), offset + 1)
        return found

    def _landed(self) -> bool:
        ledger = self.lake.ledger()
        return all(ledger.get(p, (0, 0))[1] >= top for p, top in self.tops().items())

    def _rolled_up(self) -> bool:
        rows = self.lake.rows("rollups", "source_partition, max(source_to)", "true GROUP BY 1")
        reached = {int(p): int(top) for p, top in rows}
        # a span without a call has no row: the last events of a partition may be bad ones
        last = {
            p: max(o for (q, o), what in self.sent.items() if q == p and isinstance(what, str)) for p in self.tops()
        }
        return all(reached.get(p, 0) > offset for p, offset in last.items())


@contextmanager
def living(bootstrap: str, home: Path) -> Iterator[Life]:
    """``tailrace up`` for the length of the block; nothing of it is left behind."""
    home.mkdir(parents=True, exist_ok=True)
    with listening(Receiver()) as receiver:
        life = Life(bootstrap, home, receiver)
        life.start()
        try:
            yield life
        finally:
            life.up.kill()
            life.up.wait()


@contextmanager
def killing(life: Life, *, seed: int, over_s: float) -> Iterator[list[str]]:
    """Kill -9 each stage once, in an order and at moments drawn by ``seed`` within ``over_s`` seconds."""
    rng = random.Random(f"kills-{seed}")
    names = [stage.name for stage in STAGES]
    rng.shuffle(names)
    moments = sorted(rng.uniform(0.05, 0.95) * over_s for _ in names)
    killed: list[str] = []
    finished = threading.Event()

    def run() -> None:
        began = time.monotonic()
        for name, moment in zip(names, moments, strict=True):
            if finished.wait(max(0.0, began + moment - time.monotonic())):
                return
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                said = (life.home.read_run("up") or {}).get("stages", {}).get(name, {})
                if said.get("pid"):
                    os.kill(said["pid"], signal.SIGKILL)
                    killed.append(name)
                    break
                time.sleep(0.05)

    thread = threading.Thread(target=run, name="killer", daemon=True)
    thread.start()
    try:
        yield killed
        thread.join()
    finally:
        finished.set()
        thread.join()
