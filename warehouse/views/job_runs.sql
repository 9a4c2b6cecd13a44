-- Every run of every batch job; a record that was sent twice is shown once, by the id in run.
-- logged_at: when the record was written
-- job: name of the job
-- due_at: when it was due
-- started_at: when it began
-- ended_at: when it ended; NULL in the record of its start
-- state: started, done, failed or skipped
-- detail: what it found, or the error
-- run: the whole record
SELECT "at" AS logged_at, "row"->>'job' AS job, ("row"->>'due_at') AS due_at, ("row"->>'started_at') AS started_at,
    ("row"->>'ended_at') AS ended_at, "row"->>'state' AS state, "row"->>'detail' AS detail, "row"::JSON AS run
FROM log_records
WHERE "table" = 'job_runs'
QUALIFY "row"->>'id' IS NULL OR row_number() OVER (PARTITION BY "row"->>'id' ORDER BY _partition, _offset) = 1
