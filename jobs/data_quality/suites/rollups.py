"""What is expected of the rollups that detectors judge."""

from __future__ import annotations

from jobs.data_quality.suite import Check, Suite
from jobs.data_quality.suites.events import between, not_above, not_null

_WINDOW = "_landed_at >= $since AND _landed_at < $until"
_DOUBLED = (
    "SELECT count(*) OVER () AS observed, series, second, source_partition, source_from, part, count(*) AS times "
    f"FROM rollups WHERE {_WINDOW} "
    "GROUP BY dims, series, second, source_epoch, source_partition, source_from, part, key HAVING count(*) > 1"
)
_SPANS = f"""
WITH spans AS (
    SELECT source_epoch, source_partition, min(source_from) AS low, max(source_to) AS high, sum(calls) AS counted
    FROM rollups JOIN (SELECT DISTINCT epoch AS source_epoch, "partition" AS source_partition, next_offset FROM ledger
        WHERE topic = 'llm.events') AS l USING (source_epoch, source_partition)
    WHERE {_WINDOW} AND dims = 'app' AND source_to <= l.next_offset GROUP BY ALL
), counts AS (
    SELECT s.*, (SELECT count(*) FROM raw_calls AS c WHERE c._epoch = s.source_epoch
        AND c._partition = s.source_partition AND c._offset >= s.low AND c._offset < s.high
        AND NOT coalesce(c._dup, false)) AS landed FROM spans AS s
)
"""
ROLLUPS = Suite(
    "rollups",
    "rollups",
    where=_WINDOW,
    rows=(
        *map(not_null, ("dims", "series", "second", "calls", "source_partition", "source_from", "source_to")),
        between("calls", 0, None),
        between("input_tokens", 0, None),
        between("output_tokens", 0, None),
        between("cost_nanousd", 0, None),
        *(not_above(part, "calls") for part in ("errors", "blocked", "refused", "truncated", "unpriced", "retrievals")),
        not_above("empty_retrievals", "retrievals"),
        not_above("source_from", "source_to"),
        Check(
            "second_not_ahead",
            "No second is more than a day ahead of when it landed.",
            "expect_column_values_to_be_between",
            {"column": "ahead_s", "max_value": 86_400},
        ),
    ),
    also={"ahead_s": '"second" - epoch(_landed_at)'},
    measures=f"""
SELECT '' AS scope, (SELECT count(*) FROM rollups WHERE {_WINDOW})::DOUBLE AS rows,
    (SELECT epoch($now - max(wall)) FROM ticks WHERE _landed_at >= $since - INTERVAL 1 DAY AND wall < $now) AS age_s,
    (SELECT count(*) FROM ({_DOUBLED}))::DOUBLE AS doubled_rows,
    ({_SPANS} SELECT max(abs(counted - landed)) FROM counts)::DOUBLE AS calls_apart
""",
    measured=(
        Check(
            "rows_unique",
            "No part of a message of meter landed twice.",
            "expect_column_values_to_be_between",
            {"column": "doubled_rows", "max_value": 0},
            "critical",
            failing=f"{_DOUBLED} LIMIT 100",
        ),
        Check(
            "fresh",
            "meter's newest tick is at most 15 minutes old.",
            "expect_column_values_to_be_between",
            {"column": "age_s", "max_value": 900},
            "critical",
            failing="SELECT epoch($now - max(wall)) AS observed FROM ticks "
            "WHERE _landed_at >= $since - INTERVAL 1 DAY AND wall < $now",
            unit="s",
        ),
        Check(
            "calls_agree",
            "meter counted as many calls as landed from the same positions of llm.events.",
            "expect_column_values_to_be_between",
            {"column": "calls_apart", "max_value": 0},
            "critical",
            failing=f"{_SPANS} SELECT abs(counted - landed) AS observed, * FROM counts WHERE counted <> landed "
            "ORDER BY observed DESC",
            unit="calls",
        ),
    ),
)
