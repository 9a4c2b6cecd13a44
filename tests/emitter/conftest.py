"""Topics made and read by the tests themselves, with a consumer that is not ours."""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


class Topic:
    """One topic of one test: its name, and everything in it from the beginning."""

    def __init__(self, bootstrap: str, name: str) -> None:
        self.bootstrap = bootstrap
        self.name = name
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for future in admin.create_topics([NewTopic(name, 2, 1)]).values():
            future.result(20)

    def messages(self, at_least: int = 0, wait_s: float = 20) -> list[Any]:
        """All messages up to the high watermarks, once there are ``at_least`` so many."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "test", "enable.auto.commit": False})
        try:
            until = time.monotonic() + wait_s
            while True:
                ends = {p: consumer.get_watermark_offsets(TopicPartition(self.name, p), timeout=10)[1] for p in (0, 1)}
                if sum(ends.values()) >= at_least or time.monotonic() > until:
                    break
                time.sleep(0.05)
            consumer.assign([TopicPartition(self.name, p, 0) for p in ends])
            found: list[Any] = []
            while len(found) < sum(ends.values()):
                message = consumer.poll(10)
                assert message is not None, "the broker stopped answering"
                assert message.error() is None, message.error()
                found.append(message)
            return found
        finally:
            consumer.close()

    def events(self, at_least: int = 0, wait_s: float = 20) -> list[dict[str, Any]]:
        return [json.loads(m.value()) for m in self.messages(at_least, wait_s)]


@pytest.fixture
def topic(broker: Any, prefix: str) -> Topic:
    return Topic(broker.bootstrap, prefix + "llm.events")


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a small app in a process of its own."""

    def start(source: str, env: dict[str, str], *args: str) -> subprocess.Popen[str]:
        path = tmp_path / "app.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return subprocess.Popen(
            [sys.executable, str(path), *args],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )

    return start
