-- What people said of golden cases; golden_verdicts has the newest word. A record that was sent twice is shown once.
-- logged_at: when
-- actor: who
-- case_id: of which case
-- verdict: accepted (it stays, or comes back) or rejected (it leaves, and what is nearly the same does not come in)
-- expected: what the answer should be; empty = an earlier one is withdrawn, NULL = not said, or the case is rejected by now
-- rubric: what a good answer does; empty = an earlier one is withdrawn, NULL = not said, or the case is rejected by now
-- note: why, in words; NULL also where it is older than the newest word, and that rejects the case
-- entry: the whole record, without what is NULL here
WITH said AS (
    SELECT "at" AS logged_at, "row"->>'case_id' AS case_id, "row"->>'verdict' AS verdict, "row"::JSON AS entry
    FROM log_records
    WHERE "table" = 'golden_reviews'
    QUALIFY "row"->>'id' IS NULL OR row_number() OVER (PARTITION BY "row"->>'id' ORDER BY _partition, _offset) = 1
),
judged AS (
    -- texts that a rejection takes out of all versions are not shown here either
    SELECT *,
        case_id IS NOT NULL AND coalesce(first_value(verdict) OVER newest = 'rejected', false) AS gone,
        row_number() OVER newest > 1 AS older
    FROM said
    WINDOW newest AS (PARTITION BY case_id ORDER BY logged_at DESC, coalesce(entry->>'id', '') DESC, verdict DESC)
)
SELECT logged_at, entry->>'actor' AS actor, case_id, verdict,
    CASE WHEN NOT gone THEN entry->>'expected' END AS expected,
    CASE WHEN NOT gone THEN entry->>'rubric' END AS rubric,
    CASE WHEN NOT (gone AND older) THEN entry->>'note' END AS note,
    CASE
        WHEN gone AND older THEN json_merge_patch(entry, '{"expected": null, "rubric": null, "note": null}')
        WHEN gone THEN json_merge_patch(entry, '{"expected": null, "rubric": null}')
        ELSE entry
    END AS entry
FROM judged
