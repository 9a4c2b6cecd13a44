"""Golden sets in the lake: the newest version of a set, what failed since, and the next version, written once.

A version stands for all its cases, so two that refresh a set at the same time must not both write one. What is read
is read in one snapshot, a row of ``job_claims`` in it; the transaction that writes moves that row by compare-and-set,
and whoever finds it moved has written nothing.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from schemas import faults
from schemas.tables import GOLDEN_CASES, GOLDEN_VERSIONS
from warehouse import claims
from warehouse.claims import Claim
from warehouse.failures import Failures, Row, Window, failures
from warehouse.lake import Lake

_VERSIONS = """
SELECT version, content_hash, epoch_us(window_to) AS window_to FROM golden_versions WHERE set_name = $1 ORDER BY version
"""
_CASES = "SELECT * EXCLUDE (set_name, version) FROM golden_cases WHERE set_name = $1 AND version = $2 ORDER BY case_id"
_REVIEWS = """
SELECT case_id, arg_max(verdict, logged_at) AS verdict, arg_max(expected, logged_at) AS expected
FROM golden_reviews WHERE case_id IS NOT NULL GROUP BY case_id ORDER BY case_id
"""
_REJECTED = """
SELECT * EXCLUDE (set_name, version) FROM golden_cases WHERE set_name = $1 AND case_id = ANY($2::VARCHAR[])
QUALIFY row_number() OVER (PARTITION BY case_id ORDER BY version DESC) = 1 ORDER BY case_id
"""


@dataclass(frozen=True)
class Stand:
    """What a refresh starts from, as one snapshot of the lake shows it."""

    claim: Claim | None
    versions: list[Row]
    """version, content_hash, window_to (µs UTC), the newest last."""
    cases: list[Row]
    """Of the newest version: columns of golden_cases."""
    reviews: dict[str, Row]
    """Case -> its newest verdict, and the newest expected answer that somebody gave."""
    rejected: list[Row]
    """Cases that reviews rejected, as they stood last."""
    failures: Failures


def stand(lake: Lake, set_name: str, window: Window, *, kinds: Sequence[str], seed: int, most: int) -> Stand:
    """Return what a refresh of ``set_name`` starts from.

    Args:
        lake: opened with ``lander=False``.
        set_name: of the golden set.
        window: where failures are looked for.
        kinds: of reasons, the gravest first.
        seed: draws among failures that are equally grave.
        most: calls to read whole.
    """
    connection = lake.connection
    connection.execute("BEGIN TRANSACTION")  # one snapshot for all that is read
    try:
        claim = claims.read_by(connection, _claimed(set_name))
        versions = _rows(connection, _VERSIONS, [set_name])
        cases = _rows(connection, _CASES, [set_name, versions[-1]["version"]]) if versions else []
        reviews = {row["case_id"]: row for row in _rows(connection, _REVIEWS, [])}
        refused = [case_id for case_id, review in reviews.items() if review["verdict"] == "rejected"]
        rejected = _rows(connection, _REJECTED, [set_name, refused]) if refused else []
        failed = failures(connection, window, kinds=kinds, seed=seed, most=most)
    finally:
        connection.execute("ROLLBACK")
    return Stand(claim, versions, cases, reviews, rejected, failed)


def prepare(lake: Lake, set_name: str) -> None:
    """Make the row that writers of ``set_name`` fight for: an insert fences nothing (pitfalls 0.2)."""
    job = _claimed(set_name)
    if claims.read_by(lake.connection, job) is None:
        # two that make it at once make the same row: every move changes both
        claims.move(lake, None, Claim(job, 0, 0, "", 0, 0, 0))


def write(lake: Lake, was: Claim | None, set_name: str, version: Row, cases: Sequence[Row], *, now: int) -> bool:
    """Write the next version with all its cases, or nothing; False where another one wrote since ``was`` was read.

    Args:
        lake: opened with ``lander=False``.
        was: the claim as ``stand`` read it, after ``prepare``.
        set_name: of the golden set.
        version: columns of golden_versions but the name.
        cases: columns of golden_cases but name and version.
        now: µs UTC.

    Raises:
        LakeBusyError: others held the catalog for too long.
    """
    if was is None:
        return False
    owner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex}"  # nobody else's, whatever the clocks say
    mine = Claim(_claimed(set_name), now, was.attempt + 1, owner, now, now, now)
    whole = [{**case, "set_name": set_name, "version": version["version"]} for case in cases]
    batches = {
        GOLDEN_CASES.name: pa.Table.from_pylist(whole, schema=GOLDEN_CASES.schema),
        GOLDEN_VERSIONS.name: pa.Table.from_pylist([{**version, "set_name": set_name}], schema=GOLDEN_VERSIONS.schema),
    }
    found: Claim | None = None

    def body(connection: duckdb.DuckDBPyConnection) -> None:
        nonlocal found
        found = claims.read_by(connection, mine.job)
        if found == was and claims.put(connection, was, mine):
            lake.put(connection, batches)
        faults.point("golden.before_commit")

    faults.point("golden.before_write")
    lake.transact(body, settled=lambda: claims.read_by(lake.connection, mine.job) == mine)
    faults.point("golden.after_commit")
    return found in (was, mine)


def _claimed(set_name: str) -> str:
    """Return the name of the row; no job is called so."""
    return f"golden/{set_name}"


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[object]) -> list[Row]:
    return list(connection.execute(sql, list(params)).to_arrow_table().to_pylist())
