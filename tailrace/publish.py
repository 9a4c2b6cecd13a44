"""Events out of files onto ``llm.events``, at a pace, as bytes that nobody has touched."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.kafka import KafkaConfig, Producer
from schemas.topics import EVENTS
from tailrace.replay import key_of_line

HEADERS = (("v", b"1"),)
SECOND = 1_000_000


@dataclass
class Published:
    """What the brokers acknowledged, and what they did not."""

    positions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number of the event in its file -> (partition, offset)."""
    errors: dict[int, str] = field(default_factory=dict)
    """Number of the event -> why it was not; whoever calls says so, and may send it again."""


def publish(
    config: KafkaConfig, values: Iterable[tuple[bytes, bytes]], *, progress: Callable[[int], None] = lambda _: None
) -> Published:
    """Send (key, value) pairs and wait until each is acknowledged or refused.

    Raises:
        KafkaUnavailableError: the brokers did not say in time.
        KafkaRefusedError: an event is too large, or this user may not write.
    """
    producer = Producer(config, linger_ms=20)
    done = Published()
    count = 0
    for count, (key, value) in enumerate(values, start=1):
        producer.send(EVENTS, value, key or None, HEADERS, on_delivery=_note(done, count - 1))
        if count % 1000 == 0:
            progress(count)
    producer.flush(60)
    progress(count)
    producer.close()
    return done


def _note(done: Published, number: int) -> Callable[[Any, Any], None]:
    def noted(error: Any, message: Any) -> None:
        if error is not None:
            done.errors[number] = str(error)
        else:
            done.positions[number] = (message.partition(), message.offset())

    return noted


def keyed(lines: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, line); what is not an object, or cannot be read as one, has no key."""
    for line in lines:
        yield key_of_line(line) or b"", line


def paced(
    timed: Iterable[tuple[int, bytes, bytes]],
    speed: float,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[tuple[bytes, bytes]]:
    """Yield (key, value) when its time has come: ``timed`` holds µs from the start; ``speed`` 0 does not wait."""
    began = clock()
    for after, key, value in timed:
        if speed > 0:
            wait = began + after / SECOND / speed - clock()
            if wait > 0.001:
                sleep(wait)
        yield key, value


def in_real_time(timed: Iterable[tuple[int, bytes, bytes]], speed: float) -> Iterator[tuple[bytes, bytes]]:
    """``paced`` by this machine's clock."""
    return paced(timed, speed, clock=time.monotonic, sleep=time.sleep)
