-- LLM calls, each id once, with the cost as it is known now.
-- cost_usd: cost as now known: as landed plus every re-pricing since; NULL = unpriced
-- cost_landed_usd: cost as landed, before any re-pricing
-- price_version: price book of the last re-pricing, else of the landing
-- cost_status: computed; partly_priced: some usage has no price; reported, unpriced or free; repriced where a later price book changed it
-- user_facing: false for shadow and canary calls, whose variant begins with one of these words; totals of what users got leave them out
-- cost_computed_usd: what the price book says, as landed, whichever cost counts: the sum of the four parts and of units
WITH adjusted AS (
    SELECT id, day, _epoch, _partition, _offset, sum(delta_usd)::DECIMAL(18,9) AS delta_usd,
        arg_max(price_version, adjusted_at) AS price_version,
        arg_max(cost_status, adjusted_at) AS cost_status
    FROM cost_adjustments
    GROUP BY ALL
)
SELECT
    c.* EXCLUDE (_dup)
        REPLACE (
            /* defaults of raw_calls AS c */
            CASE WHEN a.delta_usd IS NULL THEN c.cost_usd
                ELSE (coalesce(c.cost_usd, 0) + a.delta_usd)::DECIMAL(18,9) END AS cost_usd,
            coalesce(a.price_version, c.price_version) AS price_version,
            CASE WHEN a.delta_usd IS NULL THEN c.cost_status
                WHEN a.cost_status = 'partly_priced' THEN a.cost_status ELSE 'repriced' END AS cost_status
        ),
    c.cost_usd AS cost_landed_usd,
    NOT coalesce(regexp_matches(c.variant, '^(shadow|canary)([^a-z]|$)', 'i'), false) AS user_facing,
    (c.input_cost_usd + c.output_cost_usd + c.cache_read_cost_usd + c.cache_write_cost_usd
        + coalesce(list_sum(list_transform(c.units, lambda u: u.cost)), 0))::DECIMAL(18,9) AS cost_computed_usd
FROM raw_calls AS c
LEFT JOIN adjusted AS a
    ON a.day = c.day AND a.id = c.id::VARCHAR AND a._epoch = c._epoch AND a._partition = c._partition AND a._offset = c._offset
WHERE NOT coalesce(c._dup, false)
    AND NOT EXISTS (
        FROM late_duplicates AS d
        WHERE d._epoch = c._epoch AND d._partition = c._partition AND d._offset = c._offset
    )
