-- LLM calls as this lake knew them at a moment: what had landed by then, at the cost known by then.
-- macro: t
-- cost_usd: cost as known at t
-- cost_landed_usd: cost as landed, before any re-pricing
-- user_facing: false for shadow and canary calls, as in calls
WITH adjusted AS (
    SELECT id, day, _epoch, _partition, _offset, sum(delta_usd)::DECIMAL(18,9) AS delta_usd
    FROM cost_adjustments
    WHERE adjusted_at <= t::TIMESTAMPTZ
    GROUP BY ALL
)
SELECT
    c.* EXCLUDE (_dup)
        REPLACE (
            /* defaults of raw_calls AS c */
            CASE WHEN a.delta_usd IS NULL THEN c.cost_usd
                ELSE (coalesce(c.cost_usd, 0) + a.delta_usd)::DECIMAL(18,9) END AS cost_usd
        ),
    c.cost_usd AS cost_landed_usd,
    NOT coalesce(regexp_matches(c.variant, '^(shadow|canary)([^a-z]|$)', 'i'), false) AS user_facing
FROM raw_calls AS c
LEFT JOIN adjusted AS a
    ON a.day = c.day AND a.id = c.id::VARCHAR AND a._epoch = c._epoch AND a._partition = c._partition AND a._offset = c._offset
WHERE c._landed_at <= t::TIMESTAMPTZ
    AND NOT coalesce(c._dup, false)
    AND NOT EXISTS (
        FROM late_duplicates AS d
        WHERE d.found_at <= t::TIMESTAMPTZ
            AND d._epoch = c._epoch AND d._partition = c._partition AND d._offset = c._offset
    )
