"""Whether what names a call names one that landed."""

from __future__ import annotations

from jobs.data_quality.suite import Check
from jobs.data_quality.suites.events import WINDOW, at_least

DAYS = 35
"""Calls that are looked through; the last two days first, which is nearly always enough."""
_NAMED = f"{WINDOW} AND call_id IS NOT NULL"


def orphans(table: str, where: str = "true") -> str:
    """Return SQL of the rows of this hour whose call did not land in the last 35 days."""
    return (
        f"WITH recent AS MATERIALIZED (SELECT * FROM {table} AS r WHERE {_NAMED} AND ({where}) AND NOT EXISTS "
        "(FROM raw_calls AS c WHERE c.id = r.call_id AND c.day >= $since::DATE - 2)), "
        "found AS (SELECT DISTINCT r.call_id FROM recent AS r JOIN raw_calls AS c ON c.id = r.call_id "
        f"AND c.day >= $since::DATE - {DAYS}) "
        "SELECT count(*) OVER () AS observed, id, app, ts, call_id, _partition, _offset "
        "FROM recent WHERE call_id NOT IN (SELECT call_id FROM found)"
    )


def orphan_share(table: str, where: str = "true") -> str:
    """Return SQL of the least share of this hour's rows that name a call which never landed."""
    total = f"(SELECT count(*) FROM {table} WHERE {_NAMED} AND ({where}))"
    return f"SELECT {at_least('n', total)} FROM (SELECT count(*) AS n FROM ({orphans(table, where)}))"


def linked(table: str, where: str = "true") -> Check:
    """Return that the rows name calls that landed."""
    return Check(
        "calls_exist",
        f"At most 5 % of the rows name a call that did not land in the last {DAYS} days.",
        "expect_column_values_to_be_between",
        {"column": "orphan_share_at_least", "max_value": 0.05},
        failing=f"{orphans(table, where)} LIMIT 100",
    )
