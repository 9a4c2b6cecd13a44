"""Errors of the lake, and which caller recovers from each."""

from __future__ import annotations

import re

from schemas.errors import FatalError, RetryableError
from schemas.records import Move

# DuckDB's errors of a Postgres catalog repeat the whole connection string
PASSWORD = re.compile(r"(password\s*=\s*)('(?:[^'\\]|\\.)*'?|[^\s'\"]+)|(://[^:/@\s]*:)[^@\s]+(?=@)", re.IGNORECASE)


def without_password(text: str) -> str:
    """Return ``text`` with *** where a libpq connection string in it has its password."""
    return PASSWORD.sub(lambda found: f"{found[1] or found[3]}***", text)


def passwords(catalog: str) -> list[str]:
    """Return the passwords in a catalog's connection string, as written there, for the log filter."""
    found = ((m[2] or m[0][len(m[3] or "") :]) for m in PASSWORD.finditer(catalog))
    return [text.strip("'") for text in found]


def first_line(error: Exception) -> str:
    """Return the first line of a library's error, without its explanations."""
    return (str(error).strip().splitlines() or [""])[0]


class LedgerMovedError(RetryableError):
    """The ledger is not at the expected position: another land moved it, or an earlier commit had succeeded."""

    def __init__(self, moves: tuple[Move, ...], positions: dict[tuple[str, int], int]) -> None:
        self.moves = moves
        self.positions = positions
        first = next((m for m in moves if positions.get((m.topic, m.partition)) not in (m.start, m.end)), moves[0])
        found = positions.get((first.topic, first.partition))
        super().__init__(
            f"cannot land {first.topic}[{first.partition}]@{first.start}: the ledger stands at {found}; "
            "another process moved it; re-read the ledger"
        )


class LakeBusyError(RetryableError):
    """Other writers held the catalog for longer than the retries lasted."""

    def __init__(self, catalog: str, tries: int, cause: str) -> None:
        self.catalog = catalog
        self.tries = tries
        super().__init__(
            f"cannot commit to lake {catalog}: {without_password(cause)} after {tries} tries; another writer holds it"
        )


class LakeUnavailableError(RetryableError):
    """The catalog or the data path does not answer, or the disk is full."""

    def __init__(self, catalog: str, action: str, cause: str) -> None:
        self.catalog = catalog
        self.action = action
        super().__init__(
            f"cannot {action} lake {catalog}: {without_password(cause)}; is the disk full or the catalog gone?"
        )


class LakeMemoryError(RetryableError):
    """The batch does not fit the memory limit; land splits it."""

    def __init__(self, catalog: str, rows: int, cause: str) -> None:
        self.catalog = catalog
        self.rows = rows
        super().__init__(
            f"cannot append {rows} rows to lake {catalog}: {without_password(cause)}; land smaller batches"
        )


class LakeRefusedError(FatalError):
    """The lake answers, and refuses: a row it cannot hold, a setting, a permission."""

    def __init__(self, catalog: str, action: str, cause: str) -> None:
        self.catalog = catalog
        self.action = action
        super().__init__(f"lake {catalog} refuses to {action}: {without_password(cause)}")


class LakeLockedError(FatalError):
    """Another land process owns this SQLite catalog."""

    def __init__(self, catalog: str, lock: str, pid: str) -> None:
        self.catalog = catalog
        self.pid = pid
        super().__init__(
            f"cannot land into {catalog}: process {pid or 'unknown'} lands there already (lock {lock}); "
            "one land process per SQLite catalog: stop the other, or use a Postgres catalog"
        )


class LakeMissingError(FatalError):
    """There is no catalog where one must be."""

    def __init__(self, catalog: str, why: str, remedy: str) -> None:
        self.catalog = catalog
        super().__init__(f"no lake at {catalog}: {why}; {remedy}")


class LakeNewerError(FatalError):
    """The lake was written by a newer Tailrace."""

    def __init__(self, catalog: str, found: int, known: int) -> None:
        self.catalog = catalog
        self.found = found
        self.known = known
        super().__init__(f"lake {catalog} has version {found}, this Tailrace knows {known}: install the newer Tailrace")


class LakeOlderError(FatalError):
    """An older Tailrace wrote the lake, and none of this version has written to it yet."""

    def __init__(self, catalog: str, missing: list[str]) -> None:
        self.catalog = catalog
        self.missing = missing
        super().__init__(
            f"lake {catalog} is of an older Tailrace: {', '.join(missing)} lack what this one reads; "
            "start `tailrace land` (or `up`) once, it brings the lake forward"
        )


class LakeDamagedError(FatalError):
    """A file of the lake is not what was written."""

    def __init__(self, catalog: str, cause: str) -> None:
        self.catalog = catalog
        super().__init__(
            f"lake {catalog} has a damaged file: {without_password(cause)}; "
            "`tailrace verify` lists all of them: restore them from a backup"
        )


class QueryRefusedError(FatalError):
    """A reader's SQL that the sandbox does not run."""

    def __init__(self, why: str, remedy: str) -> None:
        self.why = why
        super().__init__(f"query refused: {why}; {remedy}")


class QueryFailedError(FatalError):
    """A reader's SQL that DuckDB does not run, or not in time."""

    def __init__(self, why: str, remedy: str) -> None:
        self.why = why
        super().__init__(f"query failed: {why}; {remedy}")
