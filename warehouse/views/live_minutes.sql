-- The live rollups per minute and series. calls + shadow_calls equals the lake, call for call, and the cost cent for cent.
-- minute: minute of event time, UTC
-- dims: names of the dimensions of the series, joined by a comma
-- series: the series as JSON
-- calls: user-facing calls: without those of shadow and canary variants; in a series of a variant all its calls
-- errors: of calls, ended in an error
-- blocked: of calls, blocked by a guardrail
-- refused: of calls, refused by the model
-- shadow_calls: calls of shadow and canary variants; what they used and cost is in the sums; 0 in a series of a variant
-- unpriced: of all calls, without a known cost
-- input_tokens: of all calls
-- output_tokens: of all calls
-- cost_usd: sum of costs of all calls, as landed
SELECT time_bucket(INTERVAL 1 MINUTE, make_timestamptz(second * 1_000_000)) AS minute, dims, series,
    sum(calls - coalesce(shadow_calls, 0))::BIGINT AS calls,
    sum(errors - coalesce(shadow_errors, 0))::BIGINT AS errors,
    sum(blocked - coalesce(shadow_blocked, 0))::BIGINT AS blocked,
    sum(refused - coalesce(shadow_refused, 0))::BIGINT AS refused,
    sum(coalesce(shadow_calls, 0))::BIGINT AS shadow_calls, sum(unpriced)::BIGINT AS unpriced,
    sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
    (sum(cost_nanousd)::DECIMAL(29,0) * 0.000000001::DECIMAL(9,9)) AS cost_usd
FROM rollups
GROUP BY ALL
