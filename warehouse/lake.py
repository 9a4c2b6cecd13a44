"""The lake, read-write: a batch and its ledger move commit together, or not at all."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from itertools import count

import duckdb
import pyarrow as pa
import structlog

from schemas import faults, tables
from schemas.records import Move
from warehouse import durable, ledger, written
from warehouse.connect import LakeConfig, connect
from warehouse.errors import (
    LakeBusyError,
    LakeMemoryError,
    LakeMissingError,
    LakeRefusedError,
    LakeUnavailableError,
    LedgerMovedError,
)
from warehouse.keep import Kept, recover
from warehouse.locks import LandLock, commit_slice
from warehouse.migrate import migrate, set_options
from warehouse.shield import shielded

log = structlog.get_logger(__name__)
_TABLES = {table.name: table for table in tables.TABLES}
# DuckLake 1.5.5 does not retry "database is locked" itself (ducklake#1309), so every one of these loops here
_TRANSIENT = ("database is locked", "conflict", "concurrent", "busy", "could not serialize", "deadlock")
_SLICE_WAIT_S = 1.0


class Lake:
    """A lake to write to. Not for threads: one Lake, one thread."""

    def __init__(
        self, config: LakeConfig, *, now: Callable[[], int], lock: LandLock | None, lander: bool = False
    ) -> None:
        self.config = config
        self._lander = lander
        self.commits = 0
        """Landing commits of this process."""
        self.retries = 0
        """Transactions that were rolled back and tried again."""
        self.retry_for_s = 30.0
        self.replace_ledger_after = 2_500
        """Dead rows of the ledger after which it is replaced; 10,000 cost a commit 4 of 40 ms, being replaced 0.1 s."""
        self.reopen_after = 5_000
        """Commits after which the DuckDB is opened afresh, so that its memory cannot creep."""
        self.on_wait: Callable[[], None] = lambda: None
        """Called before every wait for another writer; land beats here."""
        self._now = now
        self._lock = lock
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._epochs: dict[str, int] = {}
        self._dead = 0
        self._name = uuid.uuid4().hex
        """Who we are in the catalog's commit messages: whether a COMMIT without an answer was ours."""
        self._written = written.of(config.data_path) if config.on_disk else None
        # a catalog in a file always answers; a network may swallow the answer of a COMMIT
        self._kept = Kept(self._name) if config.on_disk and not config.on_sqlite else None

    @classmethod
    def open(cls, config: LakeConfig, *, now: Callable[[], int], lander: bool = True, create: bool = True) -> Lake:
        """Open, create or migrate the lake of ``config``.

        Args:
            config: where it is.
            now: wall clock, µs UTC.
            lander: whether this process lands; jobs that write in bulk say False and use ``bulk_lock``.
            create: whether to make a lake where there is none.

        Raises:
            LakeMissingError: there is none, and ``create`` is off.
            LakeLockedError: another process lands on this SQLite catalog.
            LakeNewerError: a newer Tailrace wrote it.
            LakeUnavailableError: it does not answer; retry.
            LakeRefusedError: it answers, and is no lake of ours.
        """
        try:
            return cls._open(config, now=now, lander=lander, create=create)
        except (duckdb.OperationalError, duckdb.InternalException, duckdb.FatalException, OSError) as error:
            raise LakeUnavailableError(config.name, "open", _first(error)) from error
        except duckdb.Error as error:
            raise LakeRefusedError(config.name, "open", _first(error)) from error

    @classmethod
    def _open(cls, config: LakeConfig, *, now: Callable[[], int], lander: bool, create: bool) -> Lake:
        new = connect(config, create=create)  # makes the folder that the lock stands in
        try:
            lock = LandLock(config.catalog) if lander and config.on_sqlite else None
        except BaseException:
            new.close()
            raise
        lake = cls(config, now=now, lock=lock, lander=lander)
        lake._connection = lake._tuned(new)
        try:
            lake._transact(lambda c: migrate(c, config.name, now=now()), lambda: False)
            set_options(lake.connection)
            if lake._kept and lander:
                recover(config.data_path)
            lake.ledger()
            lake._dead = ledger.dead_rows(lake.connection)
        except BaseException:
            lake.close()
            raise
        return lake

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection; opened again where an error broke it."""
        if self._connection is None:
            try:
                self._connection = self._tuned(connect(self.config))
            except LakeMissingError as error:
                # it was there when we opened: moved away, not never made
                raise LakeUnavailableError(self.config.name, "reopen", str(error)) from error
        return self._connection

    def _tuned(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """Let the move of the ledger alone: its join would push filters down, and for every one of them DuckLake reads
        the statistics of all columns of all files of all tables (330 ms instead of 18 at 2,000 files; bench/commits).
        """
        if self._lander:
            connection.execute("SET disabled_optimizers = 'join_filter_pushdown'")
        return connection

    def ledger(self) -> dict[tuple[str, int], int]:
        """Return the next offset of every (topic, partition) in its current epoch, fresh from the catalog."""
        rows = ledger.read(self.connection)
        self._epochs = {topic: epoch for topic, _, epoch, _, _ in rows}
        return {(topic, partition): offset for topic, _, _, partition, offset in rows}

    def topic_ids(self) -> dict[str, str]:
        """Return the id under which each topic is landed."""
        return {topic: topic_id for topic, topic_id, *_ in ledger.read(self.connection)}

    def epoch(self, topic: str) -> int:
        """Return the current epoch of ``topic``; 0 before its first."""
        return self._epochs.get(topic, 0)

    def ensure_partitions(self, topic: str, topic_id: str, starts: Mapping[int, int]) -> None:
        """Give every partition its ledger row before its first batch: an insert fences nothing (pitfalls 0.2).

        Args:
            topic: without prefix.
            topic_id: the broker's.
            starts: partition -> first offset to land, for partitions that have no row yet; others are left alone.
        """

        def body(connection: duckdb.DuckDBPyConnection) -> None:
            rows = [row for row in ledger.read(connection) if row[0] == topic]
            epoch = max((row[2] for row in rows), default=0)
            known = {row[3] for row in rows}
            if new := [(topic, topic_id, epoch, p, start) for p, start in sorted(starts.items()) if p not in known]:
                ledger.add(connection, new)

        if any((topic, partition) not in self.ledger() for partition in starts):
            self._transact(body, lambda: False)
            self.ledger()

    def adopt(self, topic: str, topic_id: str, starts: Mapping[int, int], *, cause: str) -> int:
        """Go on with a topic that was made again, under a new epoch from ``starts``; return that epoch.

        ``cause`` stands in ``gaps``, beside where the old epoch ended.
        """

        def body(connection: duckdb.DuckDBPyConnection) -> None:
            old = [row for row in ledger.read(connection) if row[0] == topic]
            epoch = max((row[2] for row in old), default=-1) + 1
            for _, _, was, partition, offset in old:
                gap = self._gap(was, Move(topic, partition, offset, offset), cause)
                self.put(connection, {"gaps": gap})
            ledger.add(connection, [(topic, topic_id, epoch, p, start) for p, start in sorted(starts.items())])

        before = self.epoch(topic) if topic in self.topic_ids() else -1
        self._transact(body, lambda: bool(self.ledger()) and self._epochs.get(topic, -1) > before)
        self.ledger()
        return self.epoch(topic)

    def append(self, batches: Mapping[str, pa.Table], moves: Sequence[Move]) -> None:
        """Land ``batches`` and move the ledger, in one transaction.

        Args:
            batches: table name -> rows with columns of that table (missing ones become NULL).
            moves: the spans of positions these rows stand for; where the ledger stands elsewhere nothing lands.

        Raises:
            LedgerMovedError: somebody else moved it.
            LakeBusyError: other writers held the catalog for ``retry_for_s``.
            LakeMemoryError: the batch does not fit; land it in halves.
            LakeUnavailableError: disk full, catalog away.
            LakeRefusedError: a row the lake cannot hold.
        """
        real = tuple(m for m in moves if m.start != m.end)
        batches = {name: batch for name, batch in batches.items() if batch.num_rows}
        if not real and not batches:
            return

        def body(connection: duckdb.DuckDBPyConnection) -> None:
            if real and not ledger.move(connection, real, self._epochs):
                raise _MovedError
            faults.point("land.before_insert")
            self.put(connection, batches)
            faults.point("land.after_insert")
            connection.execute("CALL lake.set_commit_message('land', ?)", [self._token(real)])
            faults.point("land.before_commit")

        self._transact(body, lambda: self._settled(real), rows=sum(b.num_rows for b in batches.values()))
        faults.point("land.after_commit")
        self.commits += 1
        self._dead += len(real)
        if self._dead >= self.replace_ledger_after:
            self.replace_ledger()
        if self.commits % self.reopen_after == 0:
            self._drop_connection()

    def add_gap(self, move: Move, cause: str) -> None:
        """Skip the positions of ``move`` that nobody can read any more, and say so in ``gaps``."""
        self.append({"gaps": self._gap(self.epoch(move.topic), move, cause)}, [move])

    def insert(self, batches: Mapping[str, pa.Table]) -> None:
        """Append rows that stand for no positions (prices, what jobs found); the caller tells its own doubles."""
        self._transact(lambda connection: self.put(connection, batches), lambda: False)

    def replace_ledger(self) -> None:
        """Shed the dead rows that moves left behind; skipped where another writer is in the way."""
        try:
            ledger.prepare_replacement(self.connection)
            self._transact(ledger.replace, lambda: False)
        except (duckdb.Error, LakeBusyError) as error:
            self._drop_connection()
            log.warning("ledger_replacement_skipped", cause=str(error).splitlines()[0])
            self._dead = self.replace_ledger_after // 2
            return
        log.info("ledger_replaced", dead_rows=self._dead)
        self._dead = 0

    def query(self, sql: str, params: Sequence[object] = ()) -> pa.Table:
        """Run our own SQL (not a reader's: that is ``ReadOnlyLake``) and return the rows."""
        return self.connection.execute(sql, list(params)).to_arrow_table()

    def transact(self, body: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        """Run a bulk writer's ``body`` as one transaction, again after a conflict; keep it under 200 ms."""
        self._transact(body, lambda: False)

    @contextmanager
    def bulk_lock(self, wait_s: float = 30.0) -> Iterator[None]:
        """Hold the catalog's commit lock for one slice of work that writes by itself (merge, expire).

        Raises:
            LakeBusyError: others held it for ``wait_s``.
        """
        if not self.config.on_sqlite:
            yield
            return
        with commit_slice(self.config.catalog, wait_s=wait_s) as got:
            if not got:
                raise LakeBusyError(self.config.name, 1, "the bulk lock was not free in time")
            yield

    def close(self) -> None:
        """Give the catalog and the lock back; harmless when called twice."""
        self._drop_connection()
        if self._written:
            self._written.close()
        if self._lock:
            self._lock.release()

    def __enter__(self) -> Lake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, connection: duckdb.DuckDBPyConnection, batches: Mapping[str, pa.Table]) -> None:
        """Append rows to tables, in the caller's transaction."""
        for name, batch in batches.items():
            table = _TABLES[name]
            connection.register("batch", shielded(table.name, batch))
            # Arrow has text where the lake has UUID and JSON: the insert casts
            connection.execute(f"INSERT INTO {table.name} BY NAME SELECT * FROM batch")
            connection.unregister("batch")

    def _gap(self, epoch: int, move: Move, cause: str) -> pa.Table:
        row = {
            "topic": move.topic,
            "_epoch": epoch,
            "partition": move.partition,
            "from_offset": move.start,
            "to_offset": move.end,
            "cause": cause,
            "found_at": datetime.fromtimestamp(self._now() / 1e6, UTC),
        }
        return pa.Table.from_pylist([row], schema=tables.GAPS.schema)

    def _settled(self, moves: tuple[Move, ...]) -> bool:
        """Whether our moves have happened after all: the outcome of a broken COMMIT is read, never guessed.

        Another land that moved the same span does not count: two that batch alike would go on for ever.
        """
        if not moves:
            return False
        stands = self.ledger()
        if all(stands.get((m.topic, m.partition)) == m.end for m in moves) and self._committed(self._token(moves)):
            return True
        if all(stands.get((m.topic, m.partition)) == m.start for m in moves):
            return False
        raise LedgerMovedError(moves, stands)

    def _token(self, moves: Sequence[Move]) -> str:
        return f"{self._name} " + " ".join(f"{m.topic}/{m.partition}:{m.start}-{m.end}" for m in moves)

    def _committed(self, token: str) -> bool:
        sql = "SELECT count(*) FROM __ducklake_metadata_lake.ducklake_snapshot_changes WHERE commit_message = ?"
        return bool((self.connection.execute(sql, [token]).fetchone() or (0,))[0])

    def _transact(
        self, body: Callable[[duckdb.DuckDBPyConnection], None], settled: Callable[[], bool], *, rows: int = 0
    ) -> None:
        end = time.monotonic() + self.retry_for_s
        for tries in count(1):
            committing = False
            try:
                with self._slice():
                    if self._written:
                        self._written.begin()
                    self.connection.execute("BEGIN TRANSACTION")
                    body(self.connection)
                    self._secure()
                    committing = True
                    self.connection.execute("COMMIT")
                if self._kept:
                    self._kept.release()
                return
            except (duckdb.Error, _MovedError, OSError) as error:
                if self._kept and committing and not _transient(error):
                    self._kept.put_back()  # at once: readers may see the commit already
                self._recover(error, rows)
                cause = " ".join(str(error).split())[:300]  # DuckLake says in the second line what it was
            if self._read_settled(settled):
                if self._kept:
                    self._kept.restore()
                return
            if time.monotonic() >= end:
                raise LakeBusyError(self.config.name, tries, cause)
            self.retries += 1
            self.on_wait()
            log.info("transaction_retried", tries=tries, cause=cause)
            time.sleep(random.uniform(0.005, 0.05) * min(tries, 10))

    def _secure(self) -> None:
        """Bring what the open transaction wrote to the disk, and keep it through a COMMIT without an answer."""
        if not self._written:
            return
        files = self._written.files()
        durable.sync(files, self.config.data_path)
        if self._kept:
            self._kept.hold(files)

    def _slice(self) -> AbstractContextManager[bool]:
        return commit_slice(self.config.catalog, wait_s=_SLICE_WAIT_S) if self.config.on_sqlite else nullcontext(True)

    def _read_settled(self, settled: Callable[[], bool]) -> bool:
        try:
            return settled()
        except duckdb.Error:
            self._drop_connection()
            return False

    def _recover(self, error: Exception, rows: int) -> None:
        """Roll back; return where another try may help, else raise what it means."""
        first = _first(error)
        if self._connection is not None:
            with suppress(duckdb.Error):
                self._connection.rollback()
        if isinstance(error, duckdb.OutOfMemoryException) or _NO_MEMORY in str(error):
            self._drop_connection()
            raise LakeMemoryError(self.config.name, rows, first) from error
        if _transient(error):
            return
        self._drop_connection()
        if isinstance(error, (duckdb.InternalException, duckdb.FatalException)):
            return  # the instance is invalid, the lake is not
        if isinstance(error, (OSError, duckdb.OperationalError)):
            raise LakeUnavailableError(self.config.name, "write to", first) from error
        raise LakeRefusedError(self.config.name, "take these rows", first) from error

    def _drop_connection(self) -> None:
        if self._connection is not None:
            with suppress(duckdb.Error):
                self._connection.close()
            self._connection = None


class _MovedError(Exception):
    """Inside a transaction: the compare-and-set changed fewer rows than it had to."""


_NO_MEMORY = "failed to allocate data of size"
"""How it is told where a COMMIT ran out of it: as a transaction that failed."""


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _transient(error: Exception) -> bool:
    """Whether nothing was committed and another try may help."""
    data = isinstance(error, (duckdb.DataError, duckdb.BinderException, duckdb.ParserException))
    return isinstance(error, _MovedError) or (not data and any(sign in str(error).lower() for sign in _TRANSIENT))
