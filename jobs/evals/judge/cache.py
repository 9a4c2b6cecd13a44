"""Replies of the judge by the hash of the question, so that no reply is paid twice. A SQLite file in the home."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

from jobs.evals.judge.endpoint import Endpoint, Question, Reply
from schemas.errors import FatalError

_CREATE = "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT, asked_at INTEGER NOT NULL)"


class CacheUnusableError(FatalError):
    """The file is damaged, locked by another run, or cannot be written."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(f"cannot use the judge's cache {path}: {cause}; delete the file to start an empty one")


class CachingEndpoint:
    """Reads the cache first; keeps every reply, parsable or not, because the same question would be paid again.

    The key covers model, address, parameters, messages, schema and number of the sample. The file holds reasons of the
    judge, which may quote the texts of a case: it is readable by its owner alone.
    """

    def __init__(self, inner: Endpoint, path: Path, *, identity: str, now: Callable[[], int]) -> None:
        """Open or create the file.

        Args:
            inner: asked where the cache has no reply.
            path: the file.
            identity: model, address and parameters: what changes a reply beside the question.
            now: µs UTC.

        Raises:
            CacheUnusableError: it cannot be opened.
        """
        self.inner = inner
        self.path = path
        self.hits = 0
        self._identity = identity
        self._now = now
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            self._db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(_CREATE)
        except (OSError, sqlite3.Error) as error:
            raise CacheUnusableError(path, str(error)) from error

    def ask(self, question: Question) -> Reply:
        """Return the cached reply, at no cost; else ask, and cache the reply."""
        key = self._key(question)
        with self._lock, closing(self._db.execute("SELECT text FROM replies WHERE key = ?", (key,))) as found:
            row = found.fetchone()
            if row is not None:
                self.hits += 1
                return Reply(row[0], Decimal(0), cached=True)
        reply = self.inner.ask(question)
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, reply.text, self._now()))
        return reply

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _key(self, question: Question) -> str:
        content = [self._identity, list(question.messages), question.schema, question.sample]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def forget_replies(path: Path, *, since: int, remove: bool) -> int:
    """Return how many replies were cached since a time; ``remove`` deletes them and overwrites their bytes in the file.

    Args:
        path: the file; where there is none nothing is done.
        since: µs UTC.
        remove: whether they are deleted.

    Raises:
        CacheUnusableError: it is damaged, or another process uses it.
    """
    if not path.is_file():
        return 0
    try:
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
            db.execute(_CREATE)
            (found,) = db.execute("SELECT count(*) FROM replies WHERE asked_at >= ?", (since,)).fetchone()
            if found and remove:
                db.execute("PRAGMA secure_delete = ON")
                db.execute("DELETE FROM replies WHERE asked_at >= ?", (since,))
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return int(found)
    except sqlite3.Error as error:
        raise CacheUnusableError(path, str(error)) from error
