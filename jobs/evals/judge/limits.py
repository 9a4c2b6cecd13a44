"""What a run may spend, and how fast it may ask. Endpoints that wrap another one; safe for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from jobs.evals.judge.endpoint import Endpoint, JudgeError, Question, Reply


@dataclass
class SpendLimit:
    """Stops asking before a run spends more than ``limit``.

    A question in flight is counted with the highest cost of a question so far, so that several threads do not pass
    the limit together; the first question of a run is sent alone.
    """

    inner: Endpoint
    limit: Decimal | None
    """USD; None: no limit."""
    spent: Decimal = Decimal(0)
    unpriced: int = 0
    """Replies whose cost is not known; with a limit the first of them ends the run's questions."""
    _highest: Decimal = Decimal(0)
    _replies: int = 0
    _in_flight: int = 0
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def ask(self, question: Question) -> Reply:
        """Ask where the limit allows it.

        Raises:
            JudgeError: ``spend_limit``: the limit is reached, or the cost of this judge is not known.
        """
        self._begin()
        reply: Reply | None = None
        try:
            reply = self.inner.ask(question)
        finally:
            self._end(reply)
        return reply

    def _begin(self) -> None:
        with self._changed:
            if self.limit is not None:
                self._changed.wait_for(lambda: self._replies > 0 or not self._in_flight)
                if self.unpriced:
                    problem = "the price of the judge's model is not known; add it to `prices` in the settings"
                    raise JudgeError("spend_limit", problem)
                if self.spent + self._highest * (self._in_flight + 1) > self.limit or self.spent >= self.limit:
                    raise JudgeError("spend_limit", f"{self.spent} of {self.limit} USD are spent")
            self._in_flight += 1

    def _end(self, reply: Reply | None) -> None:
        with self._changed:
            self._in_flight -= 1
            self._replies += reply is not None
            if reply is not None and reply.cost is None:
                self.unpriced += 1
            elif reply is not None and reply.cost is not None:
                self.spent += reply.cost
                self._highest = max(self._highest, reply.cost)
            self._changed.notify_all()


@dataclass
class RateLimit:
    """Spaces questions evenly: at most ``per_minute`` begin in any minute."""

    inner: Endpoint
    per_minute: float
    clock: Callable[[], float]
    """Seconds, monotonic."""
    sleep: Callable[[float], None]
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Question) -> Reply:
        """Wait for the next free moment, then ask."""
        with self._lock:
            now = self.clock()
            begin = max(now, self._next)
            self._next = begin + 60.0 / self.per_minute
        if begin > now:
            self.sleep(begin - now)
        return self.inner.ask(question)


@dataclass
class Breaker:
    """Stops asking after ``after`` failures in a row, so that an unavailable endpoint does not cost hours."""

    inner: Endpoint
    after: int = 5
    _failures: int = 0
    _last: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, question: Question) -> Reply:
        """Ask unless the endpoint failed too often.

        Raises:
            JudgeError: of this question, or of the last one that was asked.
        """
        with self._lock:
            if self._failures >= self.after:
                raise JudgeError("unreachable", f"not asked after {self._failures} failures in a row; {self._last}")
        try:
            reply = self.inner.ask(question)
        except JudgeError as error:
            if error.kind != "spend_limit":
                with self._lock:
                    self._failures += 1
                    self._last = f"the last one: {error}"
            raise
        with self._lock:
            self._failures = 0
        return reply
