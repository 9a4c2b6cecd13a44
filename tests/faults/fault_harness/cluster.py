"""Three brokers that are controllers as well, on loopback: what one machine can have of a KRaft cluster."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from fault_harness.process import wait_until
from tailrace.broker import wire
from tailrace.broker.config import pick_free_port, properties, to_properties_text
from tailrace.broker.jars import default_cache, ensure_jars
from tailrace.broker.java import child_environment, find_java
from tailrace.broker.jvm import command

BROKERS = (1, 2, 3)
_CLUSTER = "dGFpbHJhY2UtZmF1bHRzLg"
_REPLICATED = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    "share.coordinator.state.topic.replication.factor": "3",
    "share.coordinator.state.topic.min.isr": "2",
}


class Cluster:
    """Runs until ``close``; ``kill`` ends one broker, ``start`` brings it back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        class_path = os.pathsep.join(map(str, ensure_jars(default_cache())))
        self._environment = {**child_environment(), "CLASSPATH": class_path}
        self._ports = {n: (pick_free_port(), pick_free_port()) for n in BROKERS}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        for n in BROKERS:
            self._format(n)
        for n in BROKERS:
            self.start(n)
        wait_until(lambda: all(map(self._answers, BROKERS)), 120, "three brokers answer", self.tails)

    @property
    def bootstrap(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port, _ in self._ports.values())

    def start(self, n: int) -> None:
        home = self.folder / str(n)
        with (home / "log").open("ab") as log:
            self._processes[n] = subprocess.Popen(
                [*command(find_java(), 256), "kafka.Kafka", "server.properties"],
                cwd=home,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def kill(self, n: int) -> None:
        self._processes[n].kill()
        self._processes[n].wait()

    def close(self) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def tails(self) -> str:
        return "\n".join((self.folder / str(n) / "log").read_text()[-800:] for n in BROKERS)

    def _answers(self, n: int) -> bool:
        return wire.answers("127.0.0.1", self._ports[n][0])

    def _format(self, n: int) -> None:
        home = self.folder / str(n)
        (home / "tmp").mkdir(parents=True)
        voters = ",".join(f"{each}@127.0.0.1:{port}" for each, (_, port) in self._ports.items())
        own = {"node.id": str(n), "controller.quorum.voters": voters, **_REPLICATED}
        text = to_properties_text(properties(*self._ports[n], own))
        (home / "server.properties").write_text(text)
        tool = ["kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", "server.properties"]
        subprocess.run(
            [*command(find_java(), 128), *tool], cwd=home, env=self._environment, check=True, capture_output=True
        )
