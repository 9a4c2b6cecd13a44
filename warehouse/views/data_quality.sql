-- What data quality runs found, one row an expectation and run; a record that was sent twice is shown once.
-- checked_at: when the run judged
-- run_id: the run
-- hour: beginning of the hour that was judged; rows belong to the hour in which they landed
-- suite: table that was judged, or the user's suite
-- expectation: name of the expectation in its suite
-- state: passed, failed, unknown (nothing to judge) or error (could not be judged)
-- severity: info, warning or critical
-- failing: rows or apps that failed; NULL = not counted
-- judged: rows or apps that were judged
-- observed: what the SQL returned in its first column; NULL where nothing failed
-- sql: returns the failing rows; empty where nothing failed
-- detail: why it could not be judged, or what was observed
SELECT "at" AS checked_at, "row"->>'run_id' AS run_id, ("row"->>'hour')::TIMESTAMPTZ AS hour,
    "row"->>'suite' AS suite, "row"->>'expectation' AS expectation, "row"->>'state' AS state,
    "row"->>'severity' AS severity, ("row"->>'failing')::BIGINT AS failing, ("row"->>'judged')::BIGINT AS judged,
    ("row"->>'observed')::DOUBLE AS observed, coalesce("row"->>'sql', '') AS sql,
    coalesce("row"->>'detail', '') AS detail
FROM log_records
WHERE "table" = 'data_quality'
QUALIFY row_number() OVER (PARTITION BY "row"->>'id' ORDER BY _partition, _offset) = 1
