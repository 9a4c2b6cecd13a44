"""Stop landing when most events are bad: a bad deploy must not turn a topic into dead rows. Pure."""

from __future__ import annotations

from collections import deque


class Breaker:
    """Opens when more than ``limit`` of the last ``window`` or more consecutive events are dead. Stays open.

    What is on the log does not change, so trying again cannot help: a person replays with a higher limit
    (1.0 drains), or repairs the producer and adopts the topic.
    """

    def __init__(self, *, limit: float, window: int) -> None:
        self.limit = limit
        self.window = window
        self.open = False
        self._batches: deque[tuple[int, int]] = deque()

    @property
    def ratio(self) -> float:
        """Share of dead events in the window."""
        total = sum(n for n, _ in self._batches)
        return sum(d for _, d in self._batches) / total if total else 0.0

    def judge(self, total: int, dead: int) -> bool:
        """Take the next batch into account before it lands; return whether the breaker is open."""
        if total:
            self._batches.append((total, dead))
        while len(self._batches) > 1 and sum(n for n, _ in self._batches) - self._batches[0][0] >= self.window:
            self._batches.popleft()
        enough = sum(n for n, _ in self._batches) >= self.window
        self.open = self.open or (enough and self.ratio > self.limit)
        return self.open
