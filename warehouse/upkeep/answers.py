"""Calls that two recorders reported: the app's client, and the gateway that the client called. One of them counts.

Both events name one answer of the provider (``response_id``) and the same tokens, and began within 15 minutes of each
other. The event that names its owner counts, else the first one. Not compared: what an answer cache gave (a cache
repeats the id of the answer that it kept), calls without tokens, and ids too short to be unique, which some local
servers give to every answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import duckdb
import pyarrow as pa

from warehouse.storage.connect import quoted

MIN_ID_CHARS = 16
APART_S = 900
"""Longest time between the beginnings of the two, seconds: a gateway may queue a request."""
_COMPARED = (
    f"length(response_id) >= {MIN_ID_CHARS} AND coalesce(input_tokens, 0) + coalesce(output_tokens, 0) > 0 "
    "AND coalesce(answer_cache, 'none') = 'none' AND NOT coalesce(_dup, false)"
)
_FRESH = f"""
INSERT INTO fresh_answers SELECT response_id, day FROM raw_calls
WHERE _epoch = $1 AND _partition = $2 AND _offset >= $3 AND _offset < $4 AND {_COMPARED}
"""
# calls that do not count, because their id occurred earlier, are ignored here
_FOUND = """
WITH answers AS (
    SELECT c.response_id, c.id, c.ts, c.day, c._epoch, c._partition, c._offset, c._kafka_time, c.input_tokens,
        c.output_tokens, c.user_id IS NULL AND c.tenant_id IS NULL AND c.feature IS NULL AS nobodys
    FROM raw_calls AS c SEMI JOIN fresh_answers USING (response_id)
    WHERE c.day >= {first} AND c.day <= {last} AND {compared}
        AND NOT EXISTS (
            FROM (FROM late_duplicates SELECT _epoch, _partition, _offset UNION ALL FROM found_by_id) AS d
            WHERE d._epoch = c._epoch AND d._partition = c._partition AND d._offset = c._offset
        )
), kept AS (
    FROM answers
    QUALIFY row_number() OVER (
        PARTITION BY response_id ORDER BY nobodys, _kafka_time, _epoch, _partition, _offset) = 1
)
SELECT r.id::VARCHAR AS id, r.day, r._epoch, r._partition, r._offset, k._epoch AS kept_epoch,
    k._partition AS kept_partition, k._offset AS kept_offset, false AS near, false AS conflict
FROM answers AS r JOIN kept AS k USING (response_id)
WHERE r.id <> k.id AND r.input_tokens IS NOT DISTINCT FROM k.input_tokens
    AND r.output_tokens IS NOT DISTINCT FROM k.output_tokens AND abs(epoch(r.ts) - epoch(k.ts)) <= {apart}
"""


def found_answers(
    connection: duckdb.DuckDBPyConnection, spans: Mapping[tuple[int, int], tuple[int, int]], by_id: pa.Table
) -> pa.Table:
    """Return rows of ``late_duplicates`` for calls whose answer another call in the lake names as well.

    Args:
        connection: in a transaction on the lake.
        spans: (epoch, partition) -> positions that are looked at now; they are compared with the days around them.
        by_id: rows that the comparison of ids found in the same positions.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE fresh_answers (response_id VARCHAR, day DATE)")
    for (epoch, partition), (start, upto) in spans.items():
        connection.execute(_FRESH, [epoch, partition, start, upto])
    connection.register("by_id", by_id.select(["_epoch", "_partition", "_offset"]))
    connection.execute("CREATE OR REPLACE TEMP TABLE found_by_id AS FROM by_id")
    connection.unregister("by_id")
    days = connection.execute("SELECT (min(day) - 1)::DATE, (max(day) + 1)::DATE FROM fresh_answers").fetchone()
    # constants, not a join: only they let DuckDB skip files by their statistics
    first, last = (f"DATE {quoted(str(day))}" if day else "NULL" for day in days or (None, None))
    sql = _FOUND.format(first=first, last=last, compared=_COMPARED, apart=APART_S)
    return connection.execute(sql).to_arrow_table()
