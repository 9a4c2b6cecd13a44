-- The newest word on each golden case, as a whole; what it does not say of the answer an older one may have said.
-- logged_at: when it was said
-- actor: by whom
-- case_id: of which case
-- verdict: accepted (it stays, or comes back) or rejected (it leaves, and what is nearly the same does not come in)
-- expected: what the answer should be, as said last; empty = withdrawn, NULL = nobody said, or the case is rejected
-- rubric: what a good answer does, as said last; empty = withdrawn, NULL = nobody said, or the case is rejected
-- note: why, in words
SELECT logged_at, actor, case_id, verdict,
    last_value(expected IGNORE NULLS) OVER (
        PARTITION BY case_id ORDER BY logged_at, coalesce(entry->>'id', ''), verdict
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ) AS expected,
    last_value(rubric IGNORE NULLS) OVER (
        PARTITION BY case_id ORDER BY logged_at, coalesce(entry->>'id', ''), verdict
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    ) AS rubric,
    note
FROM golden_reviews
WHERE case_id IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY case_id ORDER BY logged_at DESC, coalesce(entry->>'id', '') DESC, verdict DESC) = 1
