"""Claims of due jobs: one row for each job in the lake, updated by compare-and-set, so that no due time is begun twice.

What fences is the UPDATE: two of one table never both commit (docs/engine-notes.md). So the row must exist before
a scheduler can claim the job. Two schedulers that make it at the same moment may both succeed; then there are two rows,
and every move changes both: conflicts are by table, not by row.

Every move leaves a dead row in the catalog, a few hundred a day. Only a move reads them: 50 ms with none, 160 with
36,500, 1.1 s with 300,000; land's commit does not open them. maintain sheds them, as land does those of the ledger.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import astuple, dataclass

import duckdb

from warehouse.errors import LakeMissingError, LakeUnavailableError, first_line
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, connect, disconnect
from warehouse.storage.locks import is_running, process_start_time

_READ = """
SELECT job, epoch_us(due_at), attempt, owner, epoch_us(claimed_at), epoch_us(lease_until), epoch_us(ended_at)
FROM job_claims WHERE job = $1 ORDER BY due_at DESC, attempt DESC, claimed_at DESC LIMIT 1
"""
_MOVE = """
UPDATE job_claims SET due_at = make_timestamptz($2::BIGINT), attempt = $3, owner = $4,
    claimed_at = make_timestamptz($5::BIGINT), lease_until = make_timestamptz($6::BIGINT),
    ended_at = make_timestamptz($7::BIGINT)
WHERE job = $1
"""
_ADD = """
INSERT INTO job_claims SELECT $1, make_timestamptz($2::BIGINT), $3, $4, make_timestamptz($5::BIGINT),
    make_timestamptz($6::BIGINT), make_timestamptz($7::BIGINT)
"""


@dataclass(frozen=True)
class Claim:
    """The last due time of a job that was claimed. Times are µs UTC."""

    job: str
    due_at: int
    attempt: int
    owner: str
    claimed_at: int
    lease_until: int
    ended_at: int | None
    """None while it runs, and where it was killed or handed back (then ``attempt`` does not count that try)."""


def read(config: LakeConfig, job: str) -> Claim | None:
    """Return the claim on ``job``; None where it was never claimed. Writes nothing, creates no lake.

    Raises:
        LakeMissingError: there is no lake yet, or land has not brought it forward.
        LakeUnavailableError: it does not answer; retry.
    """
    try:
        connection = connect(config, read_only=True)
        try:
            return read_by(connection, job)
        finally:
            disconnect(connection)
    except (duckdb.Error, OSError) as error:
        cause = first_line(error)
        # else: a part of the catalog is missing
        if isinstance(error, duckdb.CatalogException) and "job_claims" in cause:
            missing = "it has no table of claims yet"
            raise LakeMissingError(config.name, missing, "start `tailrace land` once") from error
        raise LakeUnavailableError(config.name, "read the claims of", cause) from error


def new_owner() -> str:
    """Return a unique name for a process that claims now; it does not depend on clocks."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex}/{process_start_time(os.getpid()) or ''}"


def owner_has_ended(owner: str) -> bool:
    """Whether ``owner`` is a ``new_owner`` of this host whose process has ended; False for other hosts."""
    host, pid, _, started = (*owner.split("/"), "", "", "", "")[:4]
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return not is_running(int(pid), int(started) if started.isdigit() else None)


def ensure(lake: Lake, job: str) -> Claim:
    """Return the claim on ``job``; where there is none, one without an owner is made first (docs/engine-notes.md).

    Raises:
        LakeBusyError: other writers held the catalog for too long.
        LakeUnavailableError: it does not answer; retry.
    """
    with lake.reading() as reader:
        found = read_by(reader, job)
    if found is None:
        # two that make it at once make the same row: every move changes both
        found = Claim(job, 0, 0, "", 0, 0, 0)
        move(lake, None, found)
    return found


def move(lake: Lake, was: Claim | None, new: Claim) -> bool:
    """Replace ``was`` (None: no claim) by ``new``; return False where another process changed it first.

    Raises:
        LakeBusyError: other writers held the catalog for too long.
        LakeUnavailableError: it does not answer; retry.
    """
    won: list[bool] = []
    lake.transact(lambda connection: won.append(put(connection, was, new)))
    return won[-1]


def put(connection: duckdb.DuckDBPyConnection, was: Claim | None, new: Claim) -> bool:
    """``move``, in the caller's transaction; that may do more, and counts only where it commits."""
    found = read_by(connection, new.job)
    if found not in (was, new):  # new: committed by a try whose answer was lost
        return False
    (changed,) = connection.execute(_ADD if found is None else _MOVE, astuple(new)).fetchone() or (0,)
    return bool(changed > 0)


def read_by(connection: duckdb.DuckDBPyConnection, job: str) -> Claim | None:
    """Return the claim on ``job`` as ``connection`` sees it."""
    row = connection.execute(_READ, [job]).fetchone()
    return Claim(*row) if row else None
