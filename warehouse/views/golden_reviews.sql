-- What people said of golden cases; golden_verdicts has the newest word. A record that was sent twice is shown once.
-- logged_at: when
-- actor: who
-- case_id: of which case
-- verdict: accepted (it stays, or comes back) or rejected (it leaves, and what is nearly the same does not come in)
-- expected: what the answer should be; empty = an earlier one is withdrawn, NULL = not said
-- note: why, in words
-- entry: the whole record
SELECT "at" AS logged_at, "row"->>'actor' AS actor, "row"->>'case_id' AS case_id, "row"->>'verdict' AS verdict,
    "row"->>'expected' AS expected, "row"->>'note' AS note, "row"::JSON AS entry
FROM log_records
WHERE "table" = 'golden_reviews'
QUALIFY "row"->>'id' IS NULL OR row_number() OVER (PARTITION BY "row"->>'id' ORDER BY _partition, _offset) = 1
