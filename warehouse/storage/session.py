"""One writer's DuckDB: a transaction at a time, on the disk before it commits, tried again after a conflict."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import count
from typing import TypeVar

import duckdb
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception, retry_never, stop_after_delay, wait_random

from warehouse.errors import (
    LakeBusyError,
    LakeMemoryError,
    LakeMissingError,
    LakeRefusedError,
    LakeUnavailableError,
    first_line,
)
from warehouse.storage import fsync, written_files
from warehouse.storage.connect import LakeConfig, connect, disconnect
from warehouse.storage.hard_links import HardLinks, recover
from warehouse.storage.locks import commit_slice

log = structlog.get_logger(__name__)
Body = Callable[[duckdb.DuckDBPyConnection], object]
T = TypeVar("T")
# DuckLake 1.5.5 does not retry "database is locked" itself (ducklake#1309), so every one of these loops here
_TRANSIENT = (
    *("database is locked", "conflict", "concurrent", "busy", "could not serialize", "deadlock"),
    *("lock timeout", "idle-in-transaction timeout"),
)
_SLICE_WAIT_S = 1.0
_NO_MEMORY = "failed to allocate data of size"
"""DuckLake reports a COMMIT that ran out of memory as a failed transaction with this text."""


class RetryTransactionError(Exception):
    """Raised in the body of a transaction: roll it back, and try again unless it was committed before."""


class Session:
    """Runs transactions; opens its DuckDB again where an error broke it. Not for threads."""

    def __init__(self, config: LakeConfig, *, name: str, lander: bool) -> None:
        """Make one without a connection yet.

        Args:
            config: where the lake is.
            name: unique: part of the names of files that are kept.
            lander: whether it lands.
        """
        self.config = config
        self.retries = 0
        """Transactions that were rolled back and tried again."""
        self.retry_for_s = 30.0
        self.on_wait: Callable[[], None] = lambda: None
        """Called before every wait for another writer and between two inserts of a transaction; land sends its
        heartbeat here."""
        self._lander = lander
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._inside = False
        """Whether a transaction of ``run`` is open: a statement of it is not tried again by itself."""
        self._committing = False
        """Whether the last try came to its COMMIT."""
        self._written = written_files.of(config.data_path) if config.on_disk else None
        # a catalog in a file always answers; a network may swallow the answer of a COMMIT
        self._links = HardLinks(name) if config.on_disk and not config.on_sqlite else None

    def adopt(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Use ``connection``, which was opened to see whether there is a lake."""
        self._connection = self._configured(connection)

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The DuckDB connection; opened again where an error broke it."""
        if self._connection is None:
            try:
                self._connection = self._configured(connect(self.config, long_wait=not self._lander))
            except LakeMissingError as error:
                # it was there when we opened: moved away, not never made
                raise LakeUnavailableError(self.config.name, "reopen", str(error)) from error
        return self._connection

    def recover_links(self) -> None:
        """Restore files that a COMMIT without an answer may have deleted before a crash."""
        if self._links and self._lander:
            recover(self.config.data_path)

    def run(self, body: Body, was_committed: Callable[[], bool], *, rows: int = 0) -> None:
        """Run ``body`` as one transaction, again after a conflict.

        Args:
            body: what it does; may be run more than once, and raise RetryTransactionError.
            was_committed: reads whether it was committed after all; called after an error, before another try.
            rows: how many it writes, for messages.

        Raises:
            LakeBusyError: other writers held the catalog for ``retry_for_s``.
            LakeMemoryError: it does not fit the memory limit.
            LakeUnavailableError: disk full, catalog away.
            LakeRefusedError: a row the lake cannot hold.
        """
        end = time.monotonic() + self.retry_for_s
        for tries in count(1):
            try:
                self._run_once(body)
                return
            except (duckdb.Error, RetryTransactionError, OSError) as error:
                if self._was_committed_after(error, was_committed, rows):
                    return
                cause = " ".join(str(error).split())[:300]  # DuckLake reports the cause in the second line
            finally:
                self._inside = False
            if self._read_outcome(was_committed):
                self._restore()
                return
            if time.monotonic() >= end:
                raise LakeBusyError(self.config.name, tries, cause)
            self.retries += 1
            self.on_wait()
            log.info("transaction_retried", tries=tries, cause=cause)
            time.sleep(random.uniform(0.005, 0.05) * min(tries, 10))

    def _run_once(self, body: Body) -> None:
        self._committing = False
        if self._written:
            self._written.prepare()
        with self._commit_lock():
            if self._written:
                self._written.begin()
            self.connection.execute("BEGIN TRANSACTION")
            self._inside = True
            body(self.connection)
            self._sync_files()
            self._committing = True
            self.connection.execute("COMMIT")
        if self._links:
            self._links.release()

    def _was_committed_after(self, error: Exception, was_committed: Callable[[], bool], rows: int) -> bool:
        """Roll back after ``error``; True where the lake went away and only the answer of the COMMIT was lost.

        Raises:
            TailraceError: another try cannot succeed.
        """
        unknown = self._committing and not is_transient(error)
        if self._links and unknown:
            self._links.restore_names()  # at once: readers may see the commit already
        elif self._links and self._committing:
            self._links.release()  # nothing was committed, but files that DuckLake deleted stay deleted
        try:
            self._recover(error, rows)
        except LakeUnavailableError:
            if not (unknown and self._read_outcome(was_committed)):
                raise
            self._restore()
            return True
        return False

    def ask(self, question: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Return the result of ``question``; outside of a transaction it is retried where the catalog was locked.

        Every statement first reads the newest snapshot. On a SQLite catalog that read can be refused while
        others commit, open and close it.

        Raises:
            duckdb.Error: it was locked for ``retry_for_s``, or the statement failed otherwise.
        """
        again = Retrying(
            retry=retry_if_exception(_is_retryable) if not self._inside else retry_never,
            stop=stop_after_delay(self.retry_for_s),
            wait=wait_random(0.005, 0.2),
            before_sleep=self._retried,
            reraise=True,
        )
        return again(lambda: question(self.connection))

    def _retried(self, state: RetryCallState) -> None:
        self.on_wait()
        cause = state.outcome.exception() if state.outcome else None
        log.info("query_retried", tries=state.attempt_number, cause=" ".join(str(cause).split())[:300])

    def _sync_files(self) -> None:
        """Sync the files of the open transaction, and give them second names in case its COMMIT gets no answer."""
        if not self._written:
            return
        files = self._written.files()
        fsync.sync(files, self.config.data_path)
        if self._links:
            self._links.hold(files)

    def _commit_lock(self) -> AbstractContextManager[bool]:
        return commit_slice(self.config.catalog, wait_s=_SLICE_WAIT_S) if self.config.on_sqlite else nullcontext(True)

    def _restore(self) -> None:
        if self._links:
            self._links.restore()

    def _read_outcome(self, was_committed: Callable[[], bool]) -> bool:
        try:
            return was_committed()
        except (duckdb.Error, LakeUnavailableError):
            self.drop()
            return False

    def _recover(self, error: Exception, rows: int) -> None:
        """Roll back. Return where another try may succeed; else raise our error for ``error``."""
        first = first_line(error)
        if self._connection is not None:
            with suppress(duckdb.Error):
                self._connection.rollback()
        if isinstance(error, duckdb.OutOfMemoryException) or _NO_MEMORY in str(error):
            self.drop()
            raise LakeMemoryError(self.config.name, rows, first) from error
        if is_transient(error):
            return
        self.drop()
        if isinstance(error, (duckdb.InternalException, duckdb.FatalException)):
            return  # the instance is invalid, the lake is not
        if isinstance(error, (OSError, duckdb.OperationalError)):
            raise LakeUnavailableError(self.config.name, "write to", first) from error
        raise LakeRefusedError(self.config.name, "take these rows", first) from error

    def drop(self) -> None:
        """Close the connection; the next use opens another."""
        if self._connection is not None:
            disconnect(self._connection)
            self._connection = None

    def close(self) -> None:
        """Close the connection and the file watches. A second call does nothing."""
        self.drop()
        if self._written:
            self._written.close()

    def _configured(self, connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        """Disable the pushdown of join filters for the process that lands.

        The join that moves the ledger would push filters down. For each of them DuckLake reads the statistics of all
        columns of all files of all tables: 330 ms instead of 18 ms at 2,000 files (bench/commits).
        """
        if self._lander:
            connection.execute("SET disabled_optimizers = 'join_filter_pushdown'")
        return connection


def _is_retryable(error: BaseException) -> bool:
    return isinstance(error, duckdb.Error) and is_transient(error)


def is_transient(error: Exception) -> bool:
    """Whether nothing was committed and another try may help."""
    data = isinstance(error, (duckdb.DataError, duckdb.BinderException, duckdb.ParserException))
    return isinstance(error, RetryTransactionError) or (
        not data and any(sign in str(error).lower() for sign in _TRANSIENT)
    )
