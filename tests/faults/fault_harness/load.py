"""Load whose every id and cost is known: bulk in bursts, and a steady trickle in which incidents are planted."""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import confluent_kafka as ck

HISTORY_S = 45 * 60
"""Before anything rings an app must be known for 40 minutes."""
RATE = 10.0
"""Calls a second of each steady app."""
TIMES = 10
"""How much dearer a call is while an incident lasts."""
_TEMPLATE = (
    b'{"v":1,"type":"call","id":"00000000-0000-4000-%x-%012x","ts":%d,"app":"%s","model":"fault-model","user":"u%d",'
    b'"team":"t%d","status":"ok","tokens":{"input":%d,"output":%d},"latency":{"total_ms":%d}%s}'
)
_TEXT = (
    b',"content":{"mode":"redacted","input":[{"role":"user","text":"where is my order %d, please?"}],'
    b'"output":"it comes on Tuesday"}'
)


@dataclass
class Sums:
    """What the brokers acknowledged."""

    good: int = 0
    again: int = 0
    bad: int = 0
    tenth_micros: int = 0
    """The reference sum, in 1e-7 USD: input at 2.5, output at 10 USD a million."""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.good + other.good,
            self.again + other.again,
            self.bad + other.bad,
            self.tenth_micros + other.tenth_micros,
        )

    @property
    def sent(self) -> int:
        """All of them."""
        return self.good + self.again + self.bad

    @property
    def usd(self) -> Decimal:
        """What the good ones cost."""
        return Decimal(self.tenth_micros) / 10_000_000


class _Sender:
    """A producer that waits where its queue is full; what it could not deliver fails the run."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic, self.sums = topic, Sums()
        self._failed: list[str] = []
        self._producer = ck.Producer(
            {
                "bootstrap.servers": bootstrap,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.messages": 200_000,
                "log_level": 0,
            }
        )

    def _put(self, value: bytes, key: bytes) -> None:
        while True:
            try:
                self._producer.produce(self.topic, value, key, on_delivery=self._noted)
                return
            except BufferError:
                self._producer.poll(0.05)

    def _noted(self, error: ck.KafkaError | None, _: ck.Message) -> None:
        if error is not None:
            self._failed.append(str(error))

    def _flush(self) -> None:
        left = self._producer.flush(120)
        assert not left, f"{left} events were not acknowledged"
        assert not self._failed, f"{len(self._failed)} events were refused: {self._failed[0]}"


class Bulk(_Sender):
    """Two apps in bursts; one event in a hundred is sent twice, one in two hundred is bad."""

    def send(self, count: int) -> None:
        """Send ``count`` new ids, and the doubles and bad events that belong to them; wait for all of them."""
        now, sums = int(time.time() * 1000), self.sums
        for i in range(sums.good, sums.good + count):
            tokens = (i % 3989 + 1, i % 887)
            app = b"shop" if i % 3 else b"desk"
            value = _TEMPLATE % (0x8000, i, now, app, i % 997, i % 7, *tokens, i % 5000, _TEXT % i)
            key = b"%d" % i
            self._put(value, key)
            sums.tenth_micros += 25 * tokens[0] + 100 * tokens[1]
            if i % 100 == 7:
                self._put(value, key)
                sums.again += 1
            if i % 200 == 11:
                self._put(value[:-1], key)
                sums.bad += 1
        sums.good += count
        self._flush()


@dataclass(frozen=True)
class Incident:
    """From ``start`` on for ``length_s`` the calls of ``app`` are ``TIMES`` as dear. Seconds since the live begin."""

    app: str
    start_s: float
    length_s: float


def planned(count: int, apps: int, span_s: float, rng: random.Random) -> list[Incident]:
    """``count`` incidents of half a minute to a minute over ``span_s`` seconds, on one app after the other.

    A series that alerted stays quiet for ten minutes: have apps enough that it is not asked again before.
    """
    every = (span_s - 15) / count
    return [
        Incident(f"steady-{i % apps}", 15 + every * (i + rng.uniform(0, 0.3)), rng.uniform(30, 60))
        for i in range(count)
    ]


class Steady(_Sender):
    """``apps`` at ``RATE`` calls a second each: ``history`` first, then ``start`` for the live part, then ``end``."""

    def __init__(self, bootstrap: str, topic: str, *, apps: int, incidents: Sequence[Incident], seed: int) -> None:
        super().__init__(bootstrap, topic)
        self.incidents = incidents
        self.began = 0.0
        """Wall time of the live begin; set by ``history``."""
        self._names = [f"steady-{i}" for i in range(apps)]
        self._rng = random.Random(f"steady-{seed}")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._error: BaseException | None = None

    def history(self) -> None:
        """Send what the apps did in the last ``HISTORY_S`` seconds, as fast as it is taken."""
        self.began = time.time()
        moments = int(HISTORY_S * RATE) * len(self._names)
        for i in range(moments):
            at = self.began - HISTORY_S + i * HISTORY_S / moments
            self._call(self._names[i % len(self._names)], at, 1)
        self._flush()

    def start(self) -> None:
        """Go on in real time."""
        self._thread.start()

    def end(self) -> None:
        """Stop, and wait until all is acknowledged."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        self._flush()

    def _live(self) -> None:
        try:
            pause, i = 1 / (RATE * len(self._names)), 0
            while not self._stop.is_set():
                at = self.began + i * pause
                if (wait := at - time.time()) > 0:
                    self._producer.poll(0)
                    time.sleep(wait)
                app = self._names[i % len(self._names)]
                self._call(app, at, TIMES if self._dear(app, at - self.began) else 1)
                i += 1
        except BaseException as error:  # noqa: BLE001 - it is raised again by who asks for the end
            self._error = error

    def _dear(self, app: str, since: float) -> bool:
        return any(n.app == app and n.start_s <= since < n.start_s + n.length_s for n in self.incidents)

    def _call(self, app: str, at: float, times: int) -> None:
        draw, i = self._rng, self.sums.good
        tokens = (draw.randrange(300, 900) * times, draw.randrange(50, 250) * times)
        value = _TEMPLATE % (0x9000, i, int(at * 1000), app.encode(), draw.randrange(20), i % 3, *tokens, i % 900, b"")
        self._put(value, b"s%d" % i)
        self.sums.good += 1
        self.sums.tenth_micros += 25 * tokens[0] + 100 * tokens[1]
