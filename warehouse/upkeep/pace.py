"""How much a slice may hold the catalog, and how long it is left alone after it."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence

import duckdb
import structlog

from warehouse.errors import LakeBusyError
from warehouse.lake import Lake
from warehouse.storage.locks import held_share

log = structlog.get_logger(__name__)
_SMALLEST = 2
_LONGEST_S = 0.8
"""Below the second for which land waits for its turn."""
_LONGEST_REST_S = 5.0
_FORGETS = 0.3
"""How much the last rest counts for how busy others are."""
_SHORT_S = 5.0
"""Land waits a second for its turn and then commits all the same: a slice that lost so often is too long."""


class Pace:
    """Run slices of work as transactions of their own, each about ``slice_s`` long; land commits between them."""

    def __init__(
        self,
        lake: Lake,
        *,
        slice_s: float = 0.2,
        rest: float = 1.0,
        size: int = 6,
        stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a pace.

        Args:
            lake: opened with ``lander=False``.
            slice_s: what a slice aims at; its size follows from how long the last ones took.
            rest: seconds left to others after each second of work, at least; more where they are busy.
            size: files (or snapshots) of the first slice.
            stop: called between slices; True ends the work there, with a consistent lake.
            clock: seconds that never go back, to measure slices by.
        """
        self.lake = lake
        self.size = size
        self.slices = 0
        self.longest_s = 0.0
        """The longest that others were kept waiting, up to their own patience."""
        self._slice_s, self._rest, self._stop, self._clock = slice_s, rest, stop, clock
        self.busy = 0.0
        """Share of our rests in which others held the catalog, of late."""
        self._recent: deque[tuple[int, float]] = deque(maxlen=10)
        """(size, seconds) of the last slices."""

    @property
    def stopped(self) -> bool:
        """Whether ``stop`` returned True."""
        return self._stop()

    def run(self, body: Callable[[duckdb.DuckDBPyConnection], object], *, most: int = 500) -> None:
        """Run one slice, size the next one by it, and rest.

        Raises:
            LakeBusyError: others held the catalog for the lake's ``retry_for_s``.
        """
        began = 0.0

        def timed(connection: duckdb.DuckDBPyConnection) -> None:
            nonlocal began
            began = self._clock()  # the lock is ours from here on
            body(connection)

        self.lake.transact(timed)
        took = self._clock() - began
        self.slices += 1
        self.longest_s = max(self.longest_s, took)
        self._recent.append((self.size, took))
        # a slice costs a fixed share and one a file: halve at once, grow by steps. Where the fixed share alone is more
        # than a slice may take, smaller ones would only be more of them: 4,500 files two at a time took an hour
        limit = max(self._slice_s, min(2 * self._fixed_s(), _LONGEST_S))
        self.size = max(_SMALLEST, self.size // 2) if took > limit else min(most, self.size + self.size // 2)
        self._leave_alone(took)

    def _leave_alone(self, took: float) -> None:
        rest = rest_after(took, self._rest, self.busy)
        if rest and self.lake.config.on_sqlite:
            self.busy += _FORGETS * (held_share(self.lake.config.catalog, rest) - self.busy)
        else:
            time.sleep(rest)

    def _fixed_s(self) -> float:
        """What a slice would cost without any file in it; 0 while all of them were of one size."""
        sizes, took = zip(*self._recent, strict=True)
        if len(set(sizes)) == 1:
            return 0.0
        return float(min(max(0.0, statistics.linear_regression(sizes, took).intercept), *took))

    def attempt(self, body: Callable[[duckdb.DuckDBPyConnection], object], *, most: int = 500) -> bool:
        """Run one slice; where it does not fit between the commits of others, False, and smaller ones from now on.

        Raises:
            LakeBusyError: not even the smallest slice fits.
        """
        session = self.lake.session
        patience, session.retry_for_s = session.retry_for_s, min(_SHORT_S, session.retry_for_s)
        try:
            self.run(body, most=most)
        except LakeBusyError:
            if self.size <= _SMALLEST:
                raise
            log.info("slice_did_not_fit", size=self.size)
            self.size = max(_SMALLEST, self.size // 4)
            return False
        finally:
            session.retry_for_s = patience
        return True


def rest_after(took: float, rest: float, busy: float) -> float:
    """Return for how long to leave others alone after a slice.

    A land that is idle most of the time bears that half of it is taken. One that works at four fifths of what it can
    has a fifth to give, and holds the lock about half the time (bench/soak: with rests as long as the slices it fell a
    minute behind in every run).

    Args:
        took: the slice, seconds.
        rest: seconds left to idle others after each second of work.
        busy: share of the time in which others held the catalog.
    """
    ours = max(0.5 * (1 - busy) ** 2, 0.01)
    return min(took * rest * (1 - ours) / ours, _LONGEST_REST_S)


class Statement:
    """One statement as the body of a slice."""

    def __init__(self, sql: str, params: Sequence[object] = ()) -> None:
        self._sql, self._params = sql, list(params)

    def __call__(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Run it and read its rows to the end: DuckDB does the work while they are read."""
        connection.execute(self._sql, self._params).fetchall()
