-- Traces: all calls that served one request, summed.
-- first_ts: start of the first call
-- duration_ms: start of the first call to the end of the last
-- calls: calls, those of shadow and canary variants as well: this is one request, no total over users
-- user_facing_calls: of them, not of a shadow or canary variant
-- models: models that were asked, in alphabetic order
-- retries: failed attempts inside the calls
-- fallbacks: calls that replaced a model that had failed
-- errors: calls that ended in an error
-- cost_usd: sum of known costs
SELECT trace_id, any_value(app) AS app, any_value(session_id) AS session_id, any_value(user_id) AS user_id,
    min(ts) AS first_ts,
    max(epoch_us(ts) / 1000.0 + coalesce(latency_ms, 0)) - min(epoch_us(ts) / 1000.0) AS duration_ms,
    count(*) AS calls,
    count(*) FILTER (user_facing) AS user_facing_calls,
    list_sort(list(DISTINCT model)) AS models,
    sum(retries)::BIGINT AS retries,
    count(fallback_from) AS fallbacks,
    count(*) FILTER (status = 'error') AS errors,
    sum(cost_usd) AS cost_usd
FROM calls
WHERE trace_id IS NOT NULL
GROUP BY trace_id
