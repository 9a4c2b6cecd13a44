-- The live rollups per minute and series: what the detectors saw. It equals the lake, call for call and cent for cent.
-- minute: minute of event time, UTC
-- dims: names of the dimensions of the series, joined by a comma
-- series: the series as JSON
-- cost_usd: sum of costs as landed
SELECT time_bucket(INTERVAL 1 MINUTE, make_timestamptz(second * 1_000_000)) AS minute, dims, series,
    sum(calls)::BIGINT AS calls, sum(errors)::BIGINT AS errors, sum(blocked)::BIGINT AS blocked,
    sum(refused)::BIGINT AS refused, sum(unpriced)::BIGINT AS unpriced,
    sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
    (sum(cost_nanousd)::DECIMAL(29,0) * 0.000000001::DECIMAL(9,9)) AS cost_usd
FROM rollups
GROUP BY ALL
