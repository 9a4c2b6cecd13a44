"""The lake, read-write: a batch and its ledger move commit together, or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import structlog

from schemas import faults, tables
from schemas.records import Move
from warehouse import ledger
from warehouse.errors import (
    LakeBusyError,
    LakeRefusedError,
    LakeUnavailableError,
    LedgerMovedError,
    first_line,
)
from warehouse.migrate import migrate, set_options
from warehouse.storage.connect import LAKE, LakeConfig, connect, disconnect
from warehouse.storage.day_slices import day_slices
from warehouse.storage.dead_bytes import pad
from warehouse.storage.locks import LandLock, commit_slice
from warehouse.storage.session import Body, RetryTransactionError, Session, is_transient
from warehouse.unfinished_copy import require_whole

log = structlog.get_logger(__name__)
_TABLES = {table.name: table for table in tables.TABLES}
_BROKEN = (duckdb.OperationalError, duckdb.InternalException, duckdb.FatalException, OSError)


class Lake:
    """A lake to write to. Not for threads: one Lake, one thread."""

    def __init__(
        self, config: LakeConfig, *, now: Callable[[], int], lock: LandLock | None, lander: bool = False
    ) -> None:
        self.config = config
        self.commits = 0
        """Landing commits of this process."""
        self.replace_ledger_after = 2_500
        """Dead rows of the ledger after which it is replaced; 10,000 cost a commit 4 of 40 ms, being replaced 0.1 s."""
        self.reopen_after = 5_000
        """Commits after which the DuckDB is opened afresh, so that its memory cannot creep."""
        self._now = now
        self._lock = lock
        self._epochs: dict[str, int] = {}
        self._dead = 0
        self._name = uuid.uuid4().hex
        """Who we are in the catalog's commit messages: whether a COMMIT without an answer was ours."""
        self.session = Session(config, name=self._name, lander=lander)

    @classmethod
    def open(cls, config: LakeConfig, *, now: Callable[[], int], lander: bool = True, create: bool = True) -> Lake:
        """Open, create or migrate the lake of ``config``.

        Args:
            config: where it is.
            now: wall clock, µs UTC.
            lander: whether this process lands; bulk writers pass False and use ``bulk_lock``.
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
        except _BROKEN as error:
            raise LakeUnavailableError(config.name, "open", first_line(error)) from error
        except duckdb.Error as error:
            # a reader or another writer held the catalog while this one read it: the lake is not damaged
            kind = LakeUnavailableError if is_transient(error) else LakeRefusedError
            raise kind(config.name, "open", first_line(error)) from error

    @classmethod
    def _open(cls, config: LakeConfig, *, now: Callable[[], int], lander: bool, create: bool) -> Lake:
        new = connect(config, create=create, long_wait=not lander)  # creates the folder of the lock
        try:
            lock = LandLock(config.catalog) if lander and config.on_sqlite else None
        except BaseException:
            new.close()
            raise
        lake = cls(config, now=now, lock=lock, lander=lander)
        lake.session.adopt(new)
        try:
            lake.session.run(lambda c: migrate(c, config.name, now=now()), lambda: False)
            lake.session.run(set_options, lambda: False)
            lake.session.recover_links()
            lake.ledger()
            lake._dead = ledger.dead_rows(lake.connection)
        except BaseException:
            lake.close()
            raise
        return lake

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection; another one after an error broke it."""
        return self.session.connection

    def ledger(self) -> dict[tuple[str, int], int]:
        """Return the next offset of every (topic, partition) in its current epoch, fresh from the catalog."""
        rows = self.session.ask(ledger.read)
        self._epochs = {topic: epoch for topic, _, epoch, _, _ in rows}
        return {(topic, partition): offset for topic, _, _, partition, offset in rows}

    def topic_ids(self) -> dict[str, str]:
        """Return the id under which each topic is landed."""
        return {topic: topic_id for topic, topic_id, *_ in self.session.ask(ledger.read)}

    def epoch(self, topic: str) -> int:
        """Return the current epoch of ``topic``; 0 before its first."""
        return self._epochs.get(topic, 0)

    def ensure_partitions(self, topic: str, topic_id: str, starts: Mapping[int, int]) -> None:
        """Give every partition its ledger row before its first batch: an insert fences nothing (docs/engine-notes.md).

        Args:
            topic: without prefix.
            topic_id: the broker's.
            starts: partition -> first offset to land, for partitions that have no row yet; others are left alone.

        Raises:
            LakeUnfinishedError: rows without positions: a copy into this lake did not finish.
        """

        def body(connection: duckdb.DuckDBPyConnection) -> None:
            known_rows = ledger.read(connection)
            if not known_rows:
                require_whole(connection, self.config.name)
            rows = [row for row in known_rows if row[0] == topic]
            epoch = max((row[2] for row in rows), default=0)
            known = {row[3] for row in rows}
            if new := [(topic, topic_id, epoch, p, start) for p, start in sorted(starts.items()) if p not in known]:
                ledger.add(connection, new, alone=self.config.on_sqlite)

        if any((topic, partition) not in self.ledger() for partition in starts):
            self.session.run(body, lambda: False)
            self.ledger()

    def adopt(self, topic: str, topic_id: str, starts: Mapping[int, int], *, cause: str) -> int:
        """Continue with a topic that was created again, under a new epoch from ``starts``; return that epoch.

        ``cause`` is written to ``gaps``, with the end of the old epoch.
        """

        def body(connection: duckdb.DuckDBPyConnection) -> None:
            old = [row for row in ledger.read(connection) if row[0] == topic]
            epoch = max((row[2] for row in old), default=-1) + 1
            for _, _, was, partition, offset in old:
                gap = self._gap(was, Move(topic, partition, offset, offset), cause)
                self.put(connection, {"gaps": gap})
            rows = [(topic, topic_id, epoch, p, start) for p, start in sorted(starts.items())]
            ledger.add(connection, rows, alone=self.config.on_sqlite)

        before = self.epoch(topic) if topic in self.topic_ids() else -1
        self.session.run(body, lambda: bool(self.ledger()) and self._epochs.get(topic, -1) > before)
        self.ledger()
        return self.epoch(topic)

    def append(self, batches: Mapping[str, pa.Table], moves: Sequence[Move]) -> None:
        """Land ``batches`` and move the ledger, in one transaction.

        Args:
            batches: table name -> rows with columns of that table (missing ones become NULL).
            moves: the spans of positions of these rows; where the ledger is at another position nothing lands.

        Raises:
            LedgerMovedError: another process moved it.
            LakeBusyError: other writers held the catalog for ``retry_for_s``.
            LakeMemoryError: the batch does not fit; split it.
            LakeUnavailableError: disk full, catalog unavailable.
            LakeRefusedError: a row the lake cannot hold.
        """
        real = tuple(m for m in moves if m.start != m.end)
        batches = {name: batch for name, batch in batches.items() if batch.num_rows}
        if not real and not batches:
            return

        def body(connection: duckdb.DuckDBPyConnection) -> None:
            if real and not ledger.move(connection, real, self._epochs):
                raise RetryTransactionError
            faults.point("land.before_insert")
            self.put(connection, batches)
            faults.point("land.after_insert")
            connection.execute("CALL lake.set_commit_message('land', ?)", [self._token(real)])
            faults.point("land.before_commit")

        self.session.run(body, lambda: self._was_committed(real), rows=sum(b.num_rows for b in batches.values()))
        faults.point("land.after_commit")
        self.commits += 1
        self._dead += len(real)
        if self._dead >= self.replace_ledger_after:
            self.replace_ledger()
        if self.commits % self.reopen_after == 0:
            self.session.drop()

    def add_gap(self, move: Move, cause: str) -> None:
        """Skip the positions of ``move``, which cannot be read any more, and record them in ``gaps``."""
        self.append({"gaps": self._gap(self.epoch(move.topic), move, cause)}, [move])

    def insert(self, batches: Mapping[str, pa.Table]) -> None:
        """Append rows without positions (prices, results of jobs); the caller removes duplicates itself."""
        self.session.run(lambda connection: self.put(connection, batches), lambda: False)

    def replace_ledger(self) -> None:
        """Remove the dead rows that moves left behind; skipped where another writer is in the way."""
        if cause := self.shed(tables.LEDGER, self.transact):
            log.warning("ledger_replacement_skipped", cause=cause)
            self._dead = self.replace_ledger_after // 2
            return
        log.info("ledger_replaced", dead_rows=self._dead)
        self._dead = 0

    def shed(self, table: tables.Table, run: Callable[[Body], None]) -> str:
        """Remove the dead rows of an inlined ``table``; return why not, where another writer is in the way.

        Args:
            table: the ledger, or another one like it.
            run: what runs the transaction.
        """
        try:
            ledger.prepare_replacement(self.connection, table)
            run(lambda connection: ledger.replace(connection, table))
        except (duckdb.Error, LakeBusyError, LakeRefusedError) as error:  # refused: another process uses the successor
            self.session.drop()
            return first_line(error)
        return ""

    def query(self, sql: str, params: Sequence[object] = ()) -> pa.Table:
        """Run our own SQL (not a reader's: that is ``ReadOnlyLake``) and return the rows."""
        return self.session.ask(lambda connection: connection.execute(sql, list(params)).to_arrow_table())

    @contextmanager
    def reading(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Yield a connection for what takes long to read, beside the one that writes.

        They share no transaction. A Postgres catalog ends a writer's transaction that seems to do nothing
        (``LakeConfig.idle_s``), and a scan of files seems so: there it is one that only reads, and no limit holds.

        Raises:
            LakeUnavailableError: the catalog or a file does not answer, or it does not fit into memory and disk.
        """
        try:
            if self.config.on_sqlite:
                with self.connection.cursor() as beside:
                    beside.execute(f"USE {LAKE}")
                    yield beside
            else:
                beside = connect(self.config, read_only=True)
                try:
                    yield beside
                finally:
                    disconnect(beside)
        except (*_BROKEN, pa.ArrowException) as error:
            self.session.drop()
            raise LakeUnavailableError(self.config.name, "read", first_line(error)) from error

    def transact(
        self, body: Callable[[duckdb.DuckDBPyConnection], object], *, was_committed: Callable[[], bool] = lambda: False
    ) -> None:
        """Run a bulk writer's ``body`` as one transaction, again after a conflict; keep it under 200 ms.

        ``was_committed`` reads the outcome after a COMMIT without an answer. Without it ``body`` must allow being run
        a second time.
        """
        self.session.run(body, was_committed)

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
        self.session.close()
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
            for slice_ in day_slices(batch) if table.partition_by == "day" else (batch,):
                connection.register("batch", pad(table.name, slice_))
                # Arrow has text where the lake has UUID and JSON: the insert casts
                connection.execute(f"INSERT INTO {table.name} BY NAME SELECT * FROM batch")
                connection.unregister("batch")
                self.session.on_wait()

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

    def _was_committed(self, moves: tuple[Move, ...]) -> bool:
        """Whether our moves were committed: the outcome of a COMMIT without an answer is read, never guessed.

        A move of the same span by another land does not count: two lands with equal batches would not notice each
        other.
        """
        if not moves:
            return False
        positions = self.ledger()
        if all(positions.get((m.topic, m.partition)) == m.end for m in moves) and self._is_in_catalog(
            self._token(moves)
        ):
            return True
        if all(positions.get((m.topic, m.partition)) == m.start for m in moves):
            return False
        raise LedgerMovedError(moves, positions)

    def _token(self, moves: Sequence[Move]) -> str:
        return f"{self._name} " + " ".join(f"{m.topic}/{m.partition}:{m.start}-{m.end}" for m in moves)

    def _is_in_catalog(self, token: str) -> bool:
        sql = "SELECT count(*) AS n FROM __ducklake_metadata_lake.ducklake_snapshot_changes WHERE commit_message = ?"
        return bool(self.query(sql, [token])["n"][0].as_py())
