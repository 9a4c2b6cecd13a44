"""The way from the app's thread to Kafka: a bounded queue, one daemon thread, one producer, per process.

The app's thread appends a tuple to a deque and leaves. All expensive work is done in the thread: conversion, redaction,
encoding, ``produce``. It yields the interpreter lock after half a millisecond of work, so that the app never waits long
for it.

The deque is nearly always empty; events that wait for a broker wait encoded in librdkafka's queue, which is bounded in
messages and bytes. When that is full, events are dropped and counted, and a warning is logged once.

Before a fork (``fork``) the producer is closed. The child starts with its own queue, thread and producer.
"""

import logging
import time
from collections import Counter, deque
from contextlib import suppress
from functools import partial
from typing import Any, Callable, Deque, Dict, Mapping, Optional, Set, Tuple
from typing import Counter as CounterOf

from tailrace_emitter import fork
from tailrace_emitter.ids import make_ready, next_id
from tailrace_emitter.native import Event, greenlets, here, new_lock, original, start_thread
from tailrace_emitter.shutdown import exit_s

log = logging.getLogger("tailrace_emitter")

Fields = Dict[str, Any]
Lazy = Optional[Callable[[Fields], Fields]]
Item = Tuple[str, str, int, Fields, bool, Lazy]
OnDelivery = Callable[[str, str, Optional[int], Optional[int], Optional[str]], None]
Encode = Callable[[str, str, int, Fields, bool], Any]

_CONTAINERS = frozenset((list, dict))
SLICE_S = 0.0005  # longest work before the interpreter lock is released
BREATH_S = 0.00002
GATHER_S = 0.002  # short wait after the first event, so that the app can continue first
POLL_S = 0.02
IDLE_S = 5.0
REMARKS_MAX = 20  # most names of wrong fields that are logged, each once
FORK_POLL_S = 0.0005
PRODUCER_DELAY_MAX_S = 1.0  # longest time that a series of forks may delay the next producer


def kafka_settings(bootstrap_servers: str, queue_max: int, given: Mapping[str, Any]) -> Dict[str, Any]:
    """Settings for librdkafka: nothing acknowledged is lost, nothing is sent twice, memory is bounded."""
    settings: Dict[str, Any] = {
        "bootstrap.servers": bootstrap_servers,
        "client.id": "tailrace-emitter",
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 20,
        "compression.type": "lz4",
        "partitioner": "murmur2_random",  # the same partition for a key as the Java clients
        "queue.buffering.max.messages": queue_max,
        "queue.buffering.max.kbytes": 64 * 1024,
        "message.max.bytes": 1_048_576,
        "reconnect.backoff.max.ms": 2_000,
        "log_level": 0,  # errors are reported by error_cb; librdkafka must not write to the app's stderr
    }
    settings.update(given)
    return settings


class Sender:
    """Queue, thread and producer of one emitter; counts every event by its outcome."""

    def __init__(
        self,
        *,
        encode: Encode,
        prepare: Callable[[], None],
        topic: str,
        bootstrap_servers: Optional[str],
        kafka: Mapping[str, Any],
        queue_max: int,
        on_delivery: Optional[OnDelivery] = None,
    ) -> None:
        self._encode = encode
        self._prepare = prepare
        self._topic = topic
        self._servers = bootstrap_servers
        self._kafka = dict(kafka)
        self._max = queue_max
        self._on_delivery = on_delivery
        self._begin()
        fork.watch(self)

    def _begin(self) -> None:
        """The state of a process that has not sent anything."""
        self._queue: Deque[Item] = deque()
        self._wake = Event()
        self._done = False
        self._start_lock = new_lock()
        self._refused_lock = new_lock()
        self._thread: Any = None
        self._sleep: Callable[[float], None] = original("time", "sleep")
        self._runs_in = 0
        self._idle = False
        self._closed = False
        self._deadline: Optional[float] = None
        self._close_until: Optional[float] = None
        self._away = False
        self._producer: Any = None
        self._built = False
        self._closed_at = float("-inf")
        self._unusable: Optional[str] = None
        self._taken = 0
        self._finished = 0
        self._delivered = 0
        self._refused: CounterOf[str] = Counter()
        self._dropped: CounterOf[str] = Counter()
        self._counts: CounterOf[str] = Counter()
        self._reported_once: Dict[str, bool] = {}
        self._remarked: Set[str] = set()

    # -- the app's thread ---------------------------------------------------------------------------------

    def put(
        self, kind: str, fields: Fields, *, ended: bool = True, event_id: str = "", ts_ns: int = 0, lazy: Lazy = None
    ) -> str:
        """Queue one event: it takes microseconds, without a lock and, in the steady state, without a system call."""
        now = time.time_ns()
        event_id = event_id or next_id(now)
        queue = self._queue
        if len(queue) >= self._max or self._closed:
            self._refuse("closed" if self._closed else "queue_full")
            return event_id
        if not _CONTAINERS.isdisjoint(map(type, fields.values())):
            for name, value in fields.items():  # a copy: the app may append to its conversation
                if type(value) in _CONTAINERS:
                    fields[name] = value.copy()
        queue.append((kind, event_id, ts_ns or now, fields, ended, lazy))
        if self._idle:
            self._wake.set()
        elif self._thread is None:
            self._start()
        return event_id

    def _refuse(self, reason: str) -> None:
        with self._refused_lock:
            self._refused[reason] += 1

    def _start(self) -> None:
        if greenlets():  # import locks are gevent's then: a native thread must not import anything
            with suppress(Exception):  # _build reports the error
                self._load()
        with self._start_lock:
            if self._thread is None:
                try:
                    self._thread = start_thread(self._run, "tailrace-emitter")
                except RuntimeError:  # the interpreter shuts down
                    return
                _finish_with_process(self)

    # -- the background thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._runs_in = here()
            if not self._servers:
                self._unusable = "not_configured"
            while self._work_slice():
                pass
        except Exception:
            log.exception("tailrace_emitter_stopped")
        finally:
            self._done = True

    def _work_slice(self) -> bool:
        """Work for a slice of time, then wait as long as the state of the queue allows; False when all is done."""
        make_ready()
        if self._close_until is not None:
            self._close_producer(self._close_until)
        if self._queue:
            if self._producer is None and not self._unusable and not self._build():
                return self._deadline is None or time.monotonic() < self._deadline
            until = time.perf_counter() + SLICE_S
            while self._queue and (self._producer is not None or self._unusable) and time.perf_counter() < until:
                self._send_next()
            if self._producer is not None:
                self._producer.poll(0)
            self._warn_of_drops()
            if self._deadline is None:
                self._sleep(BREATH_S)
            elif time.monotonic() >= self._deadline:
                return False
            return True
        if self._deadline is not None and (self._finished >= self._taken or time.monotonic() >= self._deadline):
            return False
        if self._finished < self._taken and self._producer is not None:
            self._producer.poll(POLL_S)
            return True
        self._warn_of_drops()
        self._idle = True
        if not self._queue and self._deadline is None:
            self._wake.wait(IDLE_S)
            if self._deadline is None:
                self._sleep(GATHER_S)
        self._idle = False
        self._wake.clear()
        return True

    def _build(self) -> bool:
        """Build the producer, or mark it as impossible; False where it is to be tried again soon."""
        wait = min(fork.next_fork_expected_s(), self._closed_at + PRODUCER_DELAY_MAX_S - time.monotonic())
        if wait > 0 and self._deadline is None:  # a fork that follows would have to wait for this one's connection
            self._sleep(min(wait, POLL_S))
            return False
        with fork.building():
            try:
                producer = self._load()
                settings = kafka_settings(self._servers or "", self._max, self._kafka)
                settings.setdefault("error_cb", self._on_error)
                self._producer = producer(settings)
                self._built = True
                self._away = False
                return True
            except Exception as problem:  # noqa: BLE001 - a wrong setting or a missing library must not reach the app
                failed = problem
        if self._built:  # the same settings worked before: no thread or file is available for now
            self._warn_once("unbuilt", f"no producer for {self._servers}: {failed}; events wait, it is tried again")
            self._sleep(POLL_S)
            return False
        self._unusable = "misconfigured"
        self._warn_once("misconfigured", f"no producer for {self._servers}: {failed}; events are dropped")
        return True

    def _load(self) -> Any:
        """Import every module that the thread needs; return the producer's class.

        A module lock that is held by a thread when the process forks would never be released in the child.
        """
        import ctypes  # noqa: F401 - for never_destroy

        from confluent_kafka import Producer

        self._prepare()
        return Producer

    def _send_next(self) -> None:
        self._taken += 1
        kind, event_id, ts_ns, fields, ended, lazy = self._queue.popleft()
        if self._unusable:
            return self._drop(self._unusable)
        producer = self._producer
        if len(producer) >= self._max:
            return self._drop("buffer_full")  # before the work of encoding
        try:
            if lazy is not None:
                fields = lazy(fields)
            message = self._encode(kind, event_id, ts_ns, fields, ended)
        except ValueError as problem:
            self._warn_once("invalid", f"an event was dropped: {problem}")
            return self._drop("invalid")
        except Exception as problem:  # noqa: BLE001 - an event that cannot be encoded must not stop the next
            self._warn_once("encode_error", f"an event was dropped: {type(problem).__name__} while encoding")
            return self._drop("encode_error")
        if message.counts:
            self._counts.update(message.counts)
            if message.counts.get("redaction_failed"):
                self._warn_once("redaction_failed", "redact() failed; the event went without its content")
        for name, remark in message.remarks.items():
            self._remark(name, remark)
        callback = self._on_result if self._on_delivery is None else partial(self._on_result, event_id=event_id)
        try:
            producer.produce(
                self._topic, message.value, message.key.encode("utf-8"), headers=[("v", b"1")], on_delivery=callback
            )
        except BufferError:
            self._drop("buffer_full")
        except Exception as problem:  # noqa: BLE001 - KafkaException, or an error of another client
            self._drop("produce_error")
            self._warn_once("produce_error", f"{self._topic} at {self._servers}: {problem}")
            fatal = getattr(problem.args[0] if problem.args else None, "fatal", None)
            if callable(fatal) and fatal():
                self._abandon()

    def _abandon(self) -> None:
        """A fatal error ends an idempotent producer: what it held is lost and counted, the next event builds one."""
        old, self._producer = self._producer, None
        old.purge()
        old.poll(0.1)
        lost = self._taken - self._finished
        self._dropped["produce_error"] += lost
        self._finished += lost
        fork.never_destroy(old)

    def _close_producer(self, until: float) -> None:
        """Send what the producer holds and close it with its threads; the next event builds another.

        A producer that cannot send its events by ``until`` is kept: they would be lost with it.
        """
        producer = self._producer
        try:
            if producer is None or self._deadline is not None or time.monotonic() >= until:
                return
            if not self._away:
                producer.flush(max(0.0, until - time.monotonic()))  # a new one's first event takes half a second
            if self._finished >= self._taken:
                self._producer = None
                self._closed_at = time.monotonic()
                del producer  # its destructor runs here and waits for its threads
            else:
                self._away = True  # the next fork does not wait for it
        finally:
            self._close_until = None

    def _drop(self, reason: str) -> None:
        self._finished += 1
        self._dropped[reason] += 1

    def _on_result(self, error: Any, message: Any, event_id: str = "") -> None:
        """Called by librdkafka's poll for each message that was acknowledged or that failed."""
        self._finished += 1
        if error is None:
            self._delivered += 1
            self._away = False
        else:
            reason = "timed_out" if error.name() == "_MSG_TIMED_OUT" else "not_delivered"
            self._dropped[reason] += 1
            self._warn_once(reason, f"{self._topic} at {self._servers}: {error.str()}")
        if self._on_delivery is not None:
            try:
                self._on_delivery(
                    event_id, message.topic(), message.partition(), message.offset(), error.str() if error else None
                )
            except Exception:
                log.exception("tailrace_emitter_on_delivery_failed")

    def _on_error(self, error: Any) -> None:
        self._counts["kafka_errors"] += 1
        if error.name() in ("_ALL_BROKERS_DOWN", "_AUTHENTICATION", "_SSL", "_RESOLVE"):
            self._warn_once("unreachable", f"{self._servers}: {error.str()}; events wait in memory, then are dropped")

    def _warn_of_drops(self) -> None:
        """Log once, from this thread, that events are dropped."""
        for reason in [*self._refused, *self._dropped]:
            if reason == "not_configured":
                self._warn_once(reason, "TAILRACE_BOOTSTRAP_SERVERS is not set; events are dropped")
            elif reason in ("queue_full", "buffer_full"):
                self._warn_once("full", f"{self._servers} does not keep up; events are dropped (see stats())")

    def _warn_once(self, what: str, text: str) -> None:
        if what not in self._reported_once:
            self._reported_once[what] = True
            log.warning("tailrace_emitter: %s: %s (said once)", what, text)

    def _remark(self, name: str, text: str) -> None:
        """Log once per process what is wrong with a field of the app; only for the first few names."""
        if len(self._remarked) < REMARKS_MAX and name not in self._remarked:
            self._remarked.add(name)
            last = " (wrong names are not logged any more)" if len(self._remarked) == REMARKS_MAX else ""
            log.warning("tailrace: %s%s", text, last)

    # -- any thread ---------------------------------------------------------------------------------------

    def left(self) -> int:
        """Queued events that are neither delivered nor dropped yet."""
        return len(self._queue) + self._taken - self._finished

    def flush(self, timeout: float) -> int:
        """Wait until every event is delivered or dropped, at most ``timeout`` seconds; return how many are not."""
        until = time.monotonic() + timeout
        while self.left() > 0 and self._thread is not None and time.monotonic() < until:
            self._wake.set()
            time.sleep(0.002)
        return max(0, self.left())

    def close(self, timeout: float, sleep: Optional[Callable[[float], None]] = None) -> int:
        """Accept no more events and send the queued ones, at most ``timeout`` seconds; return how many remain."""
        if self._closed:
            return max(0, self.left())
        self._closed = True
        if self._thread is not None:
            self._deadline = time.monotonic() + timeout
            self._wake.set()
            until = self._deadline + 0.2
            sleep = sleep or time.sleep  # other greenlets go on meanwhile
            while not self._done and time.monotonic() < until:
                sleep(0.002)
            if self._producer is not None:
                fork.never_destroy(self._producer)  # its destructor may wait for a broker that is unavailable
        return max(0, self.left())

    def stats(self) -> Dict[str, Any]:
        """Count the events of this process by outcome: emitted = delivered + dropped + waiting."""
        with self._refused_lock:
            dropped = self._refused + self._dropped
        waiting = max(0, self.left())
        return {
            "emitted": self._delivered + sum(dropped.values()) + waiting,
            "delivered": self._delivered,
            "waiting": waiting,
            "dropped": dict(dropped),
            "fields_dropped": self._counts["fields_dropped"],
            "unknown_fields": self._counts["unknown_fields"],
            "redaction_failed": self._counts["redaction_failed"],
            "content_truncated": self._counts["truncated"] + self._counts["content_too_large"],
            "kafka_errors": self._counts["kafka_errors"],
        }

    def request_close(self, until: float) -> None:
        """Before a fork: request that the producer is closed by ``until`` on the monotonic clock."""
        if self._producer is not None and not self._done and self._runs_in != here():
            self._close_until = until
            self._wake.set()

    def wait_for_close(self, until: float) -> None:
        """Wait until the producer was closed or could not be closed; at most until ``until``."""
        while self._close_until is not None and not self._done and time.monotonic() < until:
            self._sleep(FORK_POLL_S)

    def after_fork(self) -> None:
        """Start again in a child; the parent's handle is kept and never used."""
        if self._producer is not None:
            fork.never_destroy(self._producer)
        closed, built = self._closed, self._built
        self._begin()
        self._closed, self._built = closed, built


def _finish_with_process(sender: Sender) -> None:
    """Children of multiprocessing (and Celery's billiard) exit without atexit; they run finalizers instead."""
    import sys

    for name in ("multiprocessing.util", "billiard.util"):
        util = sys.modules.get(name)
        process = sys.modules.get(name.split(".")[0] + ".process")
        try:
            if util is None or process is None or process.current_process().name == "MainProcess":
                continue
            util.Finalize(None, sender.close, args=(exit_s(),), exitpriority=100)
        except Exception:
            log.debug("tailrace_emitter_finalizer_refused", exc_info=True)
