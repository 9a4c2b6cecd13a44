"""Removes mentions of an erased person from alerts and log records of other people, which are kept.

The rows are few, one a state change of an alert or a decision of a person: those that mention are read into memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import pyarrow as pa

from schemas import faults
from schemas.alerts import CONTENT
from schemas.tables import ALERTS, LOG_RECORDS
from warehouse.forget.mask import Mask
from warehouse.forget.rewrite import rewrite
from warehouse.forget.who import Who
from warehouse.storage.connect import quoted
from warehouse.upkeep.pace import Pace

_COLUMNS = {ALERTS.name: ("title", "sql", "alert", "call_ids"), LOG_RECORDS.name: ("row",)}
MASKED = tuple(_COLUMNS)
_PLACE = "_epoch, _partition, _offset"
_CONTENT = ", ".join(quoted(each) for each in sorted(CONTENT))
_CITED = "SELECT DISTINCT c FROM (SELECT unnest(call_ids) AS c FROM alerts) WHERE c IN (SELECT id FROM gone_calls)"
_EXCERPTS = f"""
SELECT DISTINCT rtrim(c->>'value', '… ') AS excerpt, c->>'value' AS value
FROM (SELECT unnest(json_extract(alert, '$.cause[*]')) AS c FROM alerts)
WHERE (c->>'dimension') IN ({_CONTENT}) AND length(c->>'value') > 0
"""
_TEXTS = """
SELECT concat_ws(' ', input_text, output_text, system_text, messages::VARCHAR) AS text FROM raw_calls
WHERE (_epoch, _partition, _offset) IN (SELECT (_epoch, _partition, _offset) FROM gone_calls)
UNION ALL SELECT text FROM embeddings WHERE call_id IN (SELECT id FROM gone_calls)
"""
_QUOTED = f"""
SELECT DISTINCT e.value FROM excerpts AS e
WHERE EXISTS (FROM ({_TEXTS}) AS t WHERE contains(regexp_replace(t.text, '\\s+', ' ', 'g'), e.excerpt))
"""


def hide(pace: Pace, who: Who, calls: pa.Table | None) -> dict[str, int]:
    """Mask the mentions of ``who`` and of ``calls`` in alerts and log records; return table -> rows changed."""
    with pace.lake.reading() as reader:
        who.bind(reader, calls)
        found = mentions(reader, who)
    changed = {}
    for table, rows in found.items():
        changed[table] = rows.num_rows
        if rows.num_rows:
            pace.run(_update(table, rows))
            faults.point("forget.after_mask")
            rewrite(pace, table)
    return changed


def mentions(reader: duckdb.DuckDBPyConnection, who: Who) -> dict[str, pa.Table]:
    """Return table -> position and masked columns of the rows that mention ``who`` or their calls.

    Args:
        reader: bound to the calls that go.
        who: whose mentions; of a user of one tenant only the calls are looked for, others may have the same user id.
    """
    ids = () if who.users and who.tenants else (*who.users, *who.tenants)
    cited = [c for (c,) in reader.execute(_CITED).fetchall()]
    reader.execute(f"CREATE OR REPLACE TEMP TABLE excerpts AS {_EXCERPTS}")
    mask = Mask(ids, cited, [value for (value,) in reader.execute(_QUOTED).fetchall()])
    return {table: _masked(reader, table, mask, who) for table in _COLUMNS}


def _masked(reader: duckdb.DuckDBPyConnection, table: str, mask: Mask, who: Who) -> pa.Table:
    columns = _COLUMNS[table]
    named = ", ".join(f'"{name}"' for name in columns)
    reader.register("needles", pa.table({"text": pa.array(mask.needles, pa.string())}))
    text = "concat_ws(' ', " + ", ".join(f'"{name}"::VARCHAR' for name in columns) + ")"
    sql = f"SELECT {_PLACE}, {named} FROM {table} WHERE EXISTS (FROM needles AS n WHERE contains({text}, n.text))"
    if table == ALERTS.name:
        sql += f" AND NOT coalesce({who.series}, false)"  # those are deleted as a whole
    found = reader.execute(sql).to_arrow_table()
    rows = found.to_pylist()
    new = [{**row, **{name: _apply(mask, name, row[name]) for name in columns}} for row in rows]
    changed = [after for before, after in zip(rows, new, strict=True) if before != after]
    return pa.Table.from_pylist(changed, schema=found.schema)


def _apply(mask: Mask, column: str, value: Any) -> Any:
    if value is None:
        return None
    masked: Callable[[Any], Any] = {"call_ids": mask.calls, "alert": mask.json, "row": mask.json}.get(column, mask.text)
    return masked(value)


def _update(table: str, rows: pa.Table) -> Callable[[duckdb.DuckDBPyConnection], None]:
    columns = [name for name in rows.column_names if name not in ("_epoch", "_partition", "_offset")]
    sets = ", ".join(f'"{name}" = m."{name}"' for name in columns)
    same = " AND ".join(f"t.{name} = m.{name}" for name in ("_epoch", "_partition", "_offset"))

    def body(connection: duckdb.DuckDBPyConnection) -> None:
        connection.register("masked", rows)
        connection.execute(f"UPDATE {table} AS t SET {sets} FROM masked AS m WHERE {same}").fetchall()
        connection.unregister("masked")

    return body
