"""Copies of detect and drift that are started, killed and stopped while records flow, and a check of their alerts."""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fault_harness.process import REPO, Command, Process, clean_environment
from pipelines.kafka import KafkaConfig, Producer, read_all
from schemas.alerts import Alert
from schemas.records import Record
from schemas.topics import ALERTS

States = Mapping[tuple[str, int], str]
"""(alert id, seq) -> state."""


def script(name: str, code: str, arguments: Sequence[str], log: Path, fault: str = "") -> Command:
    """A stage started by a few lines of Python, for a part that no setting names, such as a cheap model."""
    path = os.pathsep.join((str(REPO), str(REPO / "emitter"), str(REPO / "tests" / "faults")))
    environment = {**clean_environment(), "PYTHONPATH": path, "TAILRACE_FAULT": fault}
    return Command(name, [sys.executable, "-c", code, *arguments], log, environment)


class Copies:
    """Copies of one stage by their names."""

    def __init__(self, start: Callable[[str, str], Process], ready: str) -> None:
        """``start`` takes a name and a crash plan; ``ready`` is logged by a copy to which partitions were assigned."""
        self._start, self._ready = start, ready
        self.running: dict[str, Process] = {}
        self.kills = 0

    def add(self, *names: str) -> None:
        """Start copies and wait until each was assigned its partitions."""
        for name in names:
            self.running[name] = self._start(name, "")
        for name in names:
            self.running[name].says(self._ready, 120)

    def kill(self, name: str) -> None:
        self.running.pop(name).kill()
        self.kills += 1

    def crash(self, name: str, fault: str) -> None:
        """Start a copy that kills itself at a point of its code, and wait until it did."""
        process = self._start(name, fault)
        code = process.ended(180)
        assert code in (-9, 137), f"{name} ended with {code}\n{process.tail()}"
        self.kills += 1

    def stop(self, name: str) -> None:
        """SIGTERM, and wait for its end."""
        process = self.running.pop(name)
        code = process.terminate(30)
        assert code == 0, f"{name} ended with {code}\n{process.tail()}"

    def close(self) -> None:
        for process in self.running.values():
            process.kill()

    def tails(self) -> str:
        return "\n".join(process.tail() for process in self.running.values())


class Load:
    """Records of several partitions, sent slice by slice while something is done to the copies."""

    def __init__(self, config: KafkaConfig, topic: str, records: Mapping[int, Sequence[Record]], slices: int) -> None:
        self._config, self._topic, self._records, self._slices = config, topic, records, slices
        self._sent = 0

    @contextmanager
    def flowing(self, seconds: float) -> Iterator[None]:
        """Send the next slice, spread over ``seconds``, while the block runs."""
        errors: list[BaseException] = []
        part = self._next(self._sent + 1)

        def send() -> None:
            try:
                self._send(part, seconds)
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        yield
        thread.join()
        if errors:
            raise errors[0]

    def all(self) -> None:
        """Send what is left, at once."""
        self._send(self._next(self._slices), 0)

    def _next(self, upto: int) -> dict[int, Sequence[Record]]:
        begin, self._sent = self._sent, upto
        return {
            p: rows[len(rows) * begin // self._slices : len(rows) * upto // self._slices]
            for p, rows in self._records.items()
        }

    def _send(self, part: Mapping[int, Sequence[Record]], seconds: float, turns: int = 20) -> None:
        producer = Producer(self._config)
        for turn in range(turns):
            for partition, rows in part.items():
                for record in rows[len(rows) * turn // turns : len(rows) * (turn + 1) // turns]:
                    producer.send(self._topic, record.value, record.key, record.headers, partition=partition)
            producer.flush()
            time.sleep(seconds / turns)
        producer.close()


def alerts(config: KafkaConfig) -> list[Alert]:
    """Everything on llm.alerts, repetitions included."""
    return [Alert.from_json(record.value) for record in read_all(config, ALERTS) if record.value]


def states(found: Sequence[Alert]) -> States:
    """Each alert once; fails where one id and seq has two bodies."""
    bodies: dict[tuple[str, int], set[bytes]] = {}
    for alert in found:
        bodies.setdefault((alert.id, alert.seq), set()).add(alert.to_json())
    assert all(len(each) == 1 for each in bodies.values()), "one id and seq with two bodies"
    return {(a.id, a.seq): a.state for a in found}


def pause(rng: random.Random, longest_s: float = 2.0) -> None:
    """Wait for a drawn time: a kill may come at any moment."""
    time.sleep(rng.uniform(0, longest_s))
