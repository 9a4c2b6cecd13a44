"""Remove rows, in slices between which land commits. Safe to kill anywhere: run it again.

A slice is two transactions over the same few files. The first deletes the rows and, where rows prove positions, records
how many in ``retired_days``, so that ``verify`` still accounts for every position. The second writes these files
again without them. A run that was killed between the two begins with the second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import pyarrow as pa
import structlog

from schemas import faults
from schemas.tables import ROLLUPS
from warehouse.forget import rules
from warehouse.forget.calls import all_of
from warehouse.forget.exemplars import drop_exemplars
from warehouse.forget.hide import MASKED, hide
from warehouse.forget.rewrite import renew, rewrite
from warehouse.forget.rules import Rule
from warehouse.forget.who import Chosen, Who
from warehouse.upkeep.pace import Pace

log = structlog.get_logger(__name__)
_ROUNDS = 3
"""Most rounds: rows that land during a round are deleted by the next one."""
_RETIRE = """
INSERT INTO retired_days (topic, "table", day, _epoch, _partition, positions, from_offset, to_offset, retired_at)
SELECT topic, $1, day, _epoch, _partition, count(*), min(_offset), max(_offset) + 1, $2 FROM going GROUP BY ALL
"""


@dataclass(frozen=True)
class ErasureReport:
    """What one run did."""

    rows: dict[str, int]
    """Table -> rows that were deleted."""
    masked: dict[str, int]
    """Table -> rows of others that mentioned them; the mention was removed and the row kept."""
    done: bool
    """False where it was stopped, or more landed than it could follow; run it again."""


def forget(pace: Pace, who: Who, *, at: datetime | None = None) -> ErasureReport:
    """Remove the rows of ``who`` from the lake; old snapshots and ended files go with the next runs of maintain.

    Args:
        pace: of a lake opened with ``lander=False``, while no maintain runs.
        who: ids in all their forms.
        at: when, for ``retired_days``.

    Raises:
        LakeBusyError: others held the catalog for too long; run it again.
        LakeUnavailableError: the catalog or a file does not answer.
    """
    every = (*rules.alone(who), *rules.of_calls(who))
    tables = {*MASKED, *(table for rule in every for table in rule.tables)}
    eraser = Eraser(pace, who, at=at or datetime.now(UTC), tables=tables)
    masked: dict[str, int] = {}
    eraser.rewrite_all()
    followed = any(not _round(eraser, who, masked) or pace.stopped for _ in range(_ROUNDS))
    eraser.renew_all()
    return ErasureReport(eraser.rows, masked, done=followed and not pace.stopped)


def _round(eraser: Eraser, who: Who, masked: dict[str, int]) -> int:
    """Delete the rows that are there now; return how many were deleted."""
    before = sum(eraser.rows.values())
    for rule in rules.alone(who):
        eraser.erase(rule)
    for calls in eraser.groups():
        if not eraser.pace.stopped:
            hidden = hide(eraser.pace, who, calls)
            hidden[ROLLUPS.name] = drop_exemplars(eraser.pace, who, calls)
            for table, rows in hidden.items():
                masked[table] = masked.get(table, 0) + rows
        for rule in rules.of_calls(who):
            eraser.erase(rule, calls)
    return sum(eraser.rows.values()) - before


class Eraser:
    """Removes rows by rules, some files at a time, and writes these files again."""

    def __init__(self, pace: Pace, chosen: Chosen, *, at: datetime, tables: Collection[str] = ()) -> None:
        """Make one.

        Args:
            pace: of a lake opened with ``lander=False``.
            chosen: calls that go.
            at: when, for ``retired_days``.
            tables: those of `rewrite_all` and `renew_all`.
        """
        self.pace = pace
        self.rows: dict[str, int] = {}
        """Table -> rows that were deleted."""
        self._chosen, self._at, self._tables = chosen, at, sorted(tables)

    def rewrite_all(self) -> None:
        """Finish what a killed run left."""
        for table in self._tables:
            rewrite(self.pace, table)

    def renew_all(self) -> None:
        """Remove from the catalog the least and greatest values that no row has any more."""
        for table in self._tables:
            if not self.pace.stopped:
                renew(self.pace, table)

    def groups(self) -> Iterator[pa.Table]:
        """Yield the calls to delete, as many at a time as fit into memory; one empty table where there are none."""
        with self.pace.lake.reading() as reader:
            yield from all_of(reader, self._chosen)

    def erase(self, rule: Rule, calls: pa.Table | None = None) -> None:
        """Delete the rows of ``rule`` that are there now; ``calls`` are those to delete, where the rule needs them."""
        self.rows.setdefault(rule.table, 0)
        files = self._files(rule, calls)
        while files and not self.pace.stopped:
            some, files = files[: self.pace.size], files[self.pace.size :]
            self._delete(rule, calls, some)
            faults.point("forget.after_delete")
            self._rewrite(rule)

    def _files(self, rule: Rule, calls: pa.Table | None) -> list[str]:
        with self.pace.lake.reading() as reader:
            self._chosen.bind(reader, calls)
            sql = f"SELECT DISTINCT filename FROM {rule.table} WHERE {rule.which} ORDER BY 1"
            return [name for (name,) in reader.execute(sql).fetchall()]

    def _delete(self, rule: Rule, calls: pa.Table | None, files: Sequence[str]) -> None:
        gone = 0

        def body(connection: duckdb.DuckDBPyConnection) -> None:
            nonlocal gone
            self._chosen.bind(connection, calls)
            which = f"filename = ANY($1::VARCHAR[]) AND {rule.which}"
            if rule.going:
                going = f"SELECT {rule.going} FROM {rule.table} WHERE {which}"
                connection.execute(f"CREATE OR REPLACE TEMP TABLE going AS {going}", [files])
            if rule.topic:
                connection.execute(_RETIRE, [rule.table, self._at])
            for statement in rule.with_them:
                connection.execute(statement).fetchall()
            (gone,) = connection.execute(f"DELETE FROM {rule.table} WHERE {which}", [files]).fetchone() or (0,)
            faults.point("forget.before_commit")

        self.pace.run(body)
        self.rows[rule.table] += gone
        log.info("rows_forgotten", table=rule.table, rows=gone, files=len(files))

    def _rewrite(self, rule: Rule) -> None:
        for table in rule.tables:
            rewrite(self.pace, table)
