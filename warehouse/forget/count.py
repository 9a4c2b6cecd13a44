"""Counts the rows that would be deleted, and changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

import duckdb
import pyarrow as pa

from schemas.tables import ALERTS, GOLDEN_CASES, ROLLUPS
from warehouse.errors import LakeUnavailableError, first_line
from warehouse.forget import rules
from warehouse.forget.calls import all_of, calls_sql
from warehouse.forget.erase import ErasureReport
from warehouse.forget.exemplars import citing
from warehouse.forget.hide import MASKED, mentions
from warehouse.forget.who import Who
from warehouse.migrate import require_current
from warehouse.query.reading import reading
from warehouse.storage.connect import LakeConfig

_AMONG = """
WITH theirs AS MATERIALIZED ({calls})
SELECT (SELECT min(day) FROM theirs),
    (SELECT list(DISTINCT id::VARCHAR) FROM theirs WHERE id::VARCHAR IN (FROM asked_ids))
"""
_DAY = {GOLDEN_CASES.name: "ts::DATE", ALERTS.name: "detected_at::DATE"}
"""Table without a column ``day`` -> the expression used instead."""


@dataclass(frozen=True)
class Held:
    """Rows of one table."""

    table: str
    rows: int
    first: date | None
    last: date | None

    def and_also(self, other: Held) -> Held:
        """Return the two together."""
        days = [day for day in (self.first, self.last, other.first, other.last) if day is not None]
        return Held(self.table, self.rows + other.rows, min(days, default=None), max(days, default=None))


def count(config: LakeConfig, who: Who) -> ErasureReport:
    """Return what `forget` would do now; ``done`` is False.

    Raises:
        LakeMissingError: no lake there.
        LakeOlderError: no Tailrace of this version has written to it yet.
        LakeUnavailableError: it does not answer; retry.
    """
    with reading(config) as (connection, _):
        try:
            require_current(connection, config.name)
            connection.execute("BEGIN TRANSACTION")  # one snapshot
            tables, mentioned = _counted(connection, who)
            return ErasureReport({name: each.rows for name, each in tables.items()}, mentioned, done=False)
        except duckdb.IOException as error:
            raise LakeUnavailableError(config.name, "read", first_line(error)) from error


def among(config: LakeConfig, who: Who, ids: Collection[str]) -> tuple[date | None, frozenset[str]]:
    """Return the first day of the calls of ``who``, None where there are none, and which of ``ids`` are theirs.

    Raises:
        LakeMissingError: no lake there.
        LakeOlderError: no Tailrace of this version has written to it yet.
        LakeUnavailableError: it does not answer; retry.
    """
    with reading(config) as (connection, _):
        try:
            require_current(connection, config.name)
            who.bind(connection)
            connection.register("asked_ids", pa.table({"id": pa.array(sorted(ids), pa.string())}))
            first, theirs = connection.execute(_AMONG.format(calls=calls_sql(who))).fetchone() or (None, None)
            return first, frozenset(theirs or ())
        except duckdb.IOException as error:
            raise LakeUnavailableError(config.name, "read", first_line(error)) from error


def held(config: LakeConfig, who: Who) -> tuple[list[Held], dict[str, int]]:
    """Return what the lake holds of ``who``, table by table, and table -> rows of others that mention them.

    Raises:
        LakeMissingError: no lake there.
        LakeOlderError: no Tailrace of this version has written to it yet.
        LakeUnavailableError: it does not answer; retry.
    """
    with reading(config) as (connection, _):
        try:
            require_current(connection, config.name)
            connection.execute("BEGIN TRANSACTION")  # one snapshot
            tables, mentioned = _counted(connection, who)
            return list(tables.values()), mentioned
        except duckdb.IOException as error:
            raise LakeUnavailableError(config.name, "read", first_line(error)) from error


def _counted(connection: duckdb.DuckDBPyConnection, who: Who) -> tuple[dict[str, Held], dict[str, int]]:
    found: dict[str, Held] = {}
    places: dict[str, set[tuple[int, int, int]]] = {table: set() for table in MASKED}
    exemplars = 0
    who.bind(connection)
    for rule in rules.alone(who):
        found[rule.table] = _rows(connection, rule.table, rule.which)
    for calls in all_of(connection, who):
        who.bind(connection, calls)
        for table, rows in mentions(connection, who).items():
            columns = (rows[name].to_pylist() for name in ("_epoch", "_partition", "_offset"))
            places[table].update(zip(*columns, strict=True))
        exemplars += citing(connection)
        for rule in rules.of_calls(who):
            more = _rows(connection, rule.table, rule.which)
            found[rule.table] = found[rule.table].and_also(more) if rule.table in found else more
    masked = {table: len(rows) for table, rows in places.items()}
    return found, {**masked, ROLLUPS.name: exemplars}


def _rows(connection: duckdb.DuckDBPyConnection, table: str, which: str) -> Held:
    day = _DAY.get(table, "day")
    sql = f"SELECT count(*), min({day}), max({day}) FROM {table} WHERE {which}"
    return Held(table, *(connection.execute(sql).fetchone() or (0, None, None)))
