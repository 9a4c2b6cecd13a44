"""Events out of files onto ``llm.events``, at a pace, as unchanged bytes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pipelines.kafka import KafkaConfig, Producer
from pipelines.pricing.book import LATE_US
from schemas.topics import EVENTS, HISTORY_HEADER
from tailrace.events.replay import key_of_line, time_of
from tailrace.times import distance

HEADERS = (("v", b"1"),)
SECOND = 1_000_000


@dataclass
class Published:
    """What the brokers acknowledged, and what they did not."""

    positions: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Number of the event in its file -> (partition, offset)."""
    errors: dict[int, str] = field(default_factory=dict)
    """Number of the event -> why it was not acknowledged; the caller reports it, and may send it again."""


def publish(
    config: KafkaConfig,
    values: Iterable[tuple[bytes, bytes]],
    *,
    history: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Published:
    """Send (key, value) pairs and wait until each is acknowledged or refused.

    Args:
        config: where to.
        values: keys and events.
        history: mark them as history: their times are true, however old.
        progress: called with the number that was sent so far.

    Raises:
        KafkaUnavailableError: the brokers did not answer in time.
        KafkaRefusedError: an event is too large, or this user may not write.
    """
    producer = Producer(config, linger_ms=20)
    done = Published()
    headers = (*HEADERS, HISTORY_HEADER) if history else HEADERS
    count = 0
    for count, (key, value) in enumerate(values, start=1):
        producer.send(EVENTS, value, key or None, headers, on_delivery=_note(done, count - 1))
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


@dataclass
class Old:
    """How many events are so old that, unless they are sent as history, their time is taken for a wrong clock."""

    now: int
    """µs UTC."""
    events: int = 0
    oldest: int = 0
    """Event time of the oldest of them, µs UTC."""

    def counted(self, lines: Iterable[bytes]) -> Iterator[bytes]:
        """Yield ``lines`` as they are, and count."""
        for line in lines:
            time_us = time_of(line)
            if time_us is not None and time_us < self.now - LATE_US:
                self.oldest = min(self.oldest, time_us) if self.events else time_us
                self.events += 1
            yield line

    def __str__(self) -> str:
        return (
            f"{self.events} events are more than 7 days old, the oldest {distance(self.now - self.oldest)}: they count "
            "on today, as if their clocks were wrong; send such a file with --history"
        )


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
