"""A backlog of calls on a topic, and what processes used meanwhile: for benchmarks of several copies."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import confluent_kafka as ck
import psutil
from throughput import Load, events

WORDS = 45
"""Of each text: an event of about 1 KB."""


def calls(number: int, apps: int, seed: str) -> list[bytes]:
    """Return ``number`` calls of ``apps`` equally busy apps, as JSON; another ``seed`` makes other ids."""
    made = islice(events(Load(seed, WORDS, True, number, ())), number)
    return [
        line.replace(b'"app":"support-bot"', name).replace(b'"app":"search"', name)
        for i, line in enumerate(made)
        for name in [b'"app":"app-%d"' % (i * 7919 % apps)]
    ]


def produce(lines: Iterable[bytes], bootstrap: str, topic: str, partitions: int) -> None:
    """Put ``lines`` on ``topic``, partitions in turn, compressed as the emitter does."""
    settings = {
        "bootstrap.servers": bootstrap,
        "linger.ms": 50,
        "batch.size": 1 << 20,
        "compression.type": "lz4",
        "queue.buffering.max.messages": 500_000,
        "queue.buffering.max.kbytes": 1 << 20,
    }
    producer = ck.Producer(settings)
    for i, line in enumerate(lines):
        while True:
            try:
                producer.produce(topic, line, partition=i % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(120) == 0


def cpu_s(*pids: int) -> float:
    """Return the processor seconds of ``pids``, their children, and the children that they have waited for."""
    total = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            try:
                times = one.cpu_times()
            except psutil.NoSuchProcess:  # its parent has its time by now
                continue
            total += times.user + times.system + times.children_user + times.children_system
    return total


def size(folder: Path, pattern: str) -> int:
    """Return the bytes of the files that match."""
    return sum(file.stat().st_size for file in folder.glob(pattern))
