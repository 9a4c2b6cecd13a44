"""Runs of evals in the lake: which process scores a run, its sample, and its landed scores.

A run is a row of ``job_claims``: ``due_at`` is the moment whose lake it samples, so that it draws the same calls
however often it is resumed; the lease names the process that works on it. Its progress is what has landed in
``raw_evals``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import duckdb

from schemas.errors import RetryableError
from warehouse import claims, ledger
from warehouse.claims import Claim
from warehouse.errors import LakeUnavailableError, first_line
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, connect, disconnect

_LEASE_US = 300_000_000
"""Much longer than a slice: a process that did not renew its lease for this time has ended."""
_SCORED = """
SELECT call_id::VARCHAR AS call_id, name, evaluator_version FROM raw_evals
WHERE run_id = $1 AND day >= make_timestamptz($2::BIGINT)::DATE - 1 AND call_id IS NOT NULL AND error IS NULL
"""
Done = tuple[str, str, str]
"""Call, scorer, version of the scorer."""


class EvalRunBusyError(RetryableError):
    """Another process scores this run."""

    def __init__(self, run_id: str, owner: str) -> None:
        self.run_id, self.owner = run_id, owner
        super().__init__(f"{owner} scores eval run {run_id} already; wait until it is done, or five minutes if it died")


class EvalRunLostError(RetryableError):
    """Another process took the run over, because this one did not renew its lease in time."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        super().__init__(f"another process scores eval run {run_id} by now; run it again to see what is left")


class EvalRun:
    """The right to score one run; made by ``scoring``."""

    def __init__(self, lake: Lake, claim: Claim, *, now: Callable[[], int], resumed: bool) -> None:
        self.as_of = claim.due_at
        """Moment whose lake is sampled, µs UTC."""
        self.resumed = resumed
        """Whether it was begun before, and may have published scores that are not in the lake yet."""
        self.claim = claim
        self._lake, self._now, self._renewed = lake, now, now()

    def renew(self) -> None:
        """Keep the lease, where it was not renewed for a while.

        Raises:
            EvalRunLostError: another process took over.
        """
        if self._now() - self._renewed <= _LEASE_US // 3:
            return
        following = replace(self.claim, lease_until=self._now() + _LEASE_US)
        if not claims.move(self._lake, self.claim, following):
            raise EvalRunLostError(self.claim.job.partition("/")[2])
        self.claim, self._renewed = following, self._now()

    def finish(self) -> None:
        """Mark the run as done."""
        ended = replace(self.claim, ended_at=max(self._now(), self.claim.claimed_at))
        if claims.move(self._lake, self.claim, ended):
            self.claim = ended

    def release(self) -> None:
        """Release the lease, so that another process can continue an unfinished run at once."""
        if self.claim.ended_at is None:
            claims.move(self._lake, self.claim, replace(self.claim, lease_until=self._now()))


@contextmanager
def scoring(lake: Lake, run_id: str, *, now: Callable[[], int], owner: str = "") -> Iterator[EvalRun]:
    """Yield the lease of run ``run_id``; no other process scores it during this time.

    Raises:
        EvalRunBusyError: another process has it.
        LakeBusyError: others held the catalog for too long.
    """
    was, at = claims.ensure(lake, f"evals/{run_id}"), now()
    if was.attempt and was.ended_at is None and was.lease_until > at and not claims.owner_has_ended(was.owner):
        raise EvalRunBusyError(run_id, was.owner)
    as_of = was.due_at if was.attempt else at
    mine = Claim(was.job, as_of, was.attempt + 1, owner or claims.new_owner(), at, at + _LEASE_US, None)
    if not claims.move(lake, was, mine):
        raise EvalRunBusyError(run_id, "another process")
    run = EvalRun(lake, mine, now=now, resumed=was.attempt > 0)
    try:
        yield run
    finally:
        run.release()


def landed_until(config: LakeConfig, topic: str) -> dict[int, int]:
    """Return partition -> next offset to land of ``topic``, as the newest snapshot has it.

    Raises:
        LakeMissingError: no lake there.
        LakeUnavailableError: it does not answer; retry.
    """
    try:
        connection = connect(config, read_only=True)
        try:
            return {partition: offset for name, _, _, partition, offset in ledger.read(connection) if name == topic}
        finally:
            disconnect(connection)
    except (duckdb.Error, OSError) as error:
        raise LakeUnavailableError(config.name, "read the ledger of", first_line(error)) from error


def scored(lake: Lake, run_id: str, as_of: int) -> set[Done]:
    """Return what of the run has landed; its events carry ``as_of`` as their time.

    A scorer that failed at a call is tried again: an unavailable judge, or a spend limit, is no result.
    """
    with lake.reading() as reader:
        return {
            (call, name, version or "") for call, name, version in reader.execute(_SCORED, [run_id, as_of]).fetchall()
        }
