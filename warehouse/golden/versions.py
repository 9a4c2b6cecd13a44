"""Golden sets in the lake: the newest version of a set, what failed since, and the next version, written once.

A version has all its cases, so two processes that refresh a set at the same time must not both write one. What is read
is read in one snapshot, a row of ``job_claims`` in it; the transaction that writes moves that row by compare-and-set,
and a process that finds it moved has written nothing. The row also has the window of failures: from ``claimed_at``
until ``due_at``.

Texts of rejected cases go after that, a version a transaction. Who is killed between leaves texts that the next one
finds: it looks for texts of rejected cases, not for what it is about to reject.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

import duckdb
import pyarrow as pa

from schemas import faults
from schemas.tables import GOLDEN_CASES, GOLDEN_REJECTED, GOLDEN_VERSIONS
from warehouse import claims
from warehouse.claims import Claim
from warehouse.golden import traffic_sample
from warehouse.golden.failed_calls import Criteria, Failures, Row, Window, failures
from warehouse.golden.texts import blank, cases_before, drop_older, versions_with
from warehouse.lake import Lake

_VERSIONS = """
SELECT version, content_hash, epoch_us(window_to) AS window_to FROM golden_versions WHERE set_name = $1 ORDER BY version
"""
_CASES = "SELECT * EXCLUDE (set_name, version) FROM golden_cases WHERE set_name = $1 AND version = $2 ORDER BY case_id"
_REVIEWS = "SELECT case_id, verdict, expected, rubric FROM golden_verdicts ORDER BY case_id"
_VERDICTS = "SELECT case_id, verdict FROM golden_verdicts WHERE case_id = ANY($1::VARCHAR[])"
_LAST = """
SELECT * EXCLUDE (set_name, version) FROM golden_cases
WHERE set_name = $1 AND case_id = ANY($2::VARCHAR[]) AND input_text IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY case_id ORDER BY version DESC) = 1 ORDER BY case_id
"""
_SKETCHES = "SELECT case_id, min(sketch) FROM golden_rejected WHERE set_name = $1 GROUP BY case_id ORDER BY case_id"
_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class GoldenState:
    """What a refresh starts from, as one snapshot of the lake shows it."""

    claim: Claim | None
    window: Window
    """Where failures were looked for."""
    versions: list[Row]
    """version, content_hash, window_to (µs UTC), the newest last."""
    cases: list[Row]
    """Of the newest version: columns of golden_cases."""
    reviews: dict[str, Row]
    """Case -> its newest verdict, and the newest expected answer; empty where it was withdrawn."""
    returning: list[Row]
    """Accepted cases that are not in the newest version, in their last form, where their texts are still there."""
    rejected: list[Row]
    """Rejected cases whose texts are still there, in their last form."""
    sketches: dict[str, str]
    """Of those that reviews rejected and a refresh before this one has found."""
    failures: Failures
    traffic: list[str] = field(default_factory=list)
    """Inputs of a random sample of calls."""


@dataclass(frozen=True)
class Change:
    """What a refresh makes of a set."""

    window: Window
    """Where it looked."""
    version: Row | None = None
    """Columns of golden_versions but name and ``blanked``; None: nothing changed."""
    cases: Sequence[Row] = ()
    """Columns of golden_cases but name and version."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Cases -> their sketches; their texts go, in all versions."""
    oldest: int = 0
    """First version that stays."""


def read_state(
    lake: Lake,
    set_name: str,
    window: Callable[[Window | None], Window],
    criteria: Criteria,
    *,
    seed: int,
    most: int,
    traffic: tuple[Window, int] | None = None,
) -> GoldenState:
    """Return what a refresh of ``set_name`` starts from.

    Args:
        lake: opened with ``lander=False``.
        set_name: of the golden set.
        window: from where the last refresh looked for failures, if there was one, to where this one does.
        criteria: what a failure is.
        seed: draws among failures of equal severity.
        most: calls to read whole.
        traffic: where to draw calls from all traffic, and how many; None: none.

    Raises:
        LakeUnavailableError: the catalog or a file does not answer, or the question does not fit into memory and disk.
    """
    with lake.reading() as connection:
        connection.execute("BEGIN TRANSACTION")  # one snapshot for all that is read; it ends with the connection
        claim = claims.read_by(connection, _claimed(set_name))
        where = window(last_window(claim))
        versions = _rows(connection, _VERSIONS, [set_name])
        cases = _rows(connection, _CASES, [set_name, versions[-1]["version"]]) if versions else []
        reviews = {row["case_id"]: row for row in _rows(connection, _REVIEWS, [])}
        here = {case["case_id"] for case in cases}
        out = [case_id for case_id, review in reviews.items() if review["verdict"] == "rejected"]
        absent = [c for c, review in reviews.items() if review["verdict"] == "accepted" and c not in here]
        sketches = dict(connection.execute(_SKETCHES, [set_name]).fetchall()) if out else {}
        return GoldenState(
            claim,
            where,
            versions,
            cases,
            reviews,
            returning=_rows(connection, _LAST, [set_name, absent]) if absent else [],
            rejected=_rows(connection, _LAST, [set_name, out]) if out else [],
            sketches={case_id: sketches[case_id] for case_id in out if case_id in sketches},
            failures=failures(connection, where, criteria, seed=seed, most=most),
            traffic=_traffic(connection, *traffic, criteria, seed) if traffic else [],
        )


def _traffic(
    connection: duckdb.DuckDBPyConnection, where: Window, most: int, criteria: Criteria, seed: int
) -> list[str]:
    envs, not_envs = criteria.envs, criteria.not_envs
    return traffic_sample.traffic(connection, where, envs=envs, not_envs=not_envs, seed=seed, most=most)


def last_window(claim: Claim | None) -> Window | None:
    """Return where the last refresh looked for failures; None where there was none."""
    return Window(claim.claimed_at, claim.due_at) if claim and claim.attempt else None


def prepare(lake: Lake, set_name: str) -> None:
    """Create the row that writers of ``set_name`` compare and set: an insert fences nothing (docs/engine-notes.md)."""
    claims.ensure(lake, _claimed(set_name))


def write(lake: Lake, was: GoldenState, set_name: str, change: Change, *, now: int) -> bool:
    """Write ``change``, or nothing; False where another process wrote, or a verdict changed, since ``was``.

    Args:
        lake: opened with ``lander=False``.
        was: as ``read_state`` returned it, after ``prepare``.
        set_name: of the golden set.
        change: what to write.
        now: µs UTC.

    Raises:
        LakeBusyError: others held the catalog for too long.
        LakeUnavailableError: disk full, catalog away.
    """
    if was.claim is None:
        return False
    until = max(was.claim.due_at, change.window.until)  # the window never moves back, also where a clock is set back
    mine = Claim(_claimed(set_name), until, was.claim.attempt + 1, claims.new_owner(), change.window.since, now, now)
    batches = _batches(set_name, change, now, known=was.sketches)
    wrote = False

    def body(connection: duckdb.DuckDBPyConnection) -> None:
        nonlocal wrote
        found = claims.read_by(connection, mine.job)
        wrote = found == mine  # by an attempt whose answer was lost
        if found == was.claim and _is_unchanged(connection, was, set_name, change):
            wrote = claims.put(connection, was.claim, mine)
            if wrote:
                lake.put(connection, batches)
                drop_older(connection, set_name, change.oldest)
        faults.point("golden.before_commit")

    def was_committed() -> bool:
        nonlocal wrote
        wrote = claims.read_by(lake.connection, mine.job) == mine
        return wrote

    faults.point("golden.before_write")
    lake.transact(body, was_committed=was_committed)
    faults.point("golden.after_commit")
    if wrote and change.rejected:
        _blank(lake, mine, set_name, list(change.rejected))
    return wrote


def _is_unchanged(connection: duckdb.DuckDBPyConnection, was: GoldenState, set_name: str, change: Change) -> bool:
    """Whether the verdicts on cases that ``change`` removes are unchanged: a case that was accepted since must stay."""
    removed = {case["case_id"] for case in was.cases} if change.version else set()
    removed |= set(cases_before(connection, set_name, change.oldest))
    removed -= {case["case_id"] for case in (change.cases if change.version else was.cases)}
    asked = sorted(removed | set(change.rejected))
    verdicts = dict(connection.execute(_VERDICTS, [asked]).fetchall()) if asked else {}
    return all(verdicts.get(case) == was.reviews.get(case, {}).get("verdict") for case in asked)


def _blank(lake: Lake, mine: Claim, set_name: str, cases: list[str]) -> None:
    """Blank ``cases`` in all versions, the oldest first, while we hold the claim and they are still rejected."""

    def one(version: int, connection: duckdb.DuckDBPyConnection) -> None:
        if claims.read_by(connection, mine.job) == mine:
            verdicts = connection.execute(_VERDICTS, [cases]).fetchall()
            if unwanted := [case for case, verdict in verdicts if verdict == "rejected"]:
                blank(connection, set_name, version, unwanted)
        faults.point("golden.before_blank")

    with lake.reading() as reader:
        versions = versions_with(reader, set_name, cases)
    for version in versions:
        lake.transact(partial(one, version))


def _batches(set_name: str, change: Change, now: int, *, known: Collection[str]) -> dict[str, pa.Table]:
    """Return what is inserted; rejected cases that are ``known`` have a row from a refresh that did not finish."""
    at = _START + timedelta(microseconds=now)
    rows: dict[str, list[Row]] = {
        GOLDEN_REJECTED.name: [
            {"set_name": set_name, "case_id": case_id, "sketch": sketch, "rejected_at": at}
            for case_id, sketch in change.rejected.items()
            if case_id not in known
        ]
    }
    if change.version:
        number = change.version["version"]
        rows[GOLDEN_CASES.name] = [{**case, "set_name": set_name, "version": number} for case in change.cases]
        rows[GOLDEN_VERSIONS.name] = [{**change.version, "set_name": set_name, "blanked": 0}]
    tables = (GOLDEN_CASES, GOLDEN_VERSIONS, GOLDEN_REJECTED)
    return {t.name: pa.Table.from_pylist(rows[t.name], schema=t.schema) for t in tables if rows.get(t.name)}


def _claimed(set_name: str) -> str:
    """Return the name of the row; no job has this name."""
    return f"golden/{set_name}"


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, params: Sequence[object]) -> list[Row]:
    return list(connection.execute(sql, list(params)).to_arrow_table().to_pylist())
