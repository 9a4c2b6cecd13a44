-- How long calls took per day, app and model: exact percentiles of what the callers saw, without shadow and canary calls.
-- day: day of the call, UTC
-- calls: calls that reported a latency
-- latency_p50_ms: half were faster
-- latency_p95_ms: 95 % were faster
-- latency_p99_ms: 99 % were faster
-- ttft_p50_ms: half had their first chunk sooner
-- ttft_p95_ms: 95 % had their first chunk sooner
-- ttft_p99_ms: 99 % had their first chunk sooner
SELECT day, app, provider, coalesce(response_model, model) AS model,
    count(latency_ms) AS calls,
    quantile_cont(latency_ms, 0.50) AS latency_p50_ms,
    quantile_cont(latency_ms, 0.95) AS latency_p95_ms,
    quantile_cont(latency_ms, 0.99) AS latency_p99_ms,
    quantile_cont(ttft_ms, 0.50) AS ttft_p50_ms,
    quantile_cont(ttft_ms, 0.95) AS ttft_p95_ms,
    quantile_cont(ttft_ms, 0.99) AS ttft_p99_ms
FROM calls
WHERE user_facing
GROUP BY ALL
