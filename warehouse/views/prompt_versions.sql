-- Every version of every prompt template next to its siblings: volume, cost, speed, refusals, feedback.
-- first_ts: first call with it
-- last_ts: last call with it
-- calls: calls
-- cost_per_call_usd: mean known cost
-- output_tokens_per_call: mean length of the answer
-- latency_p50_ms: half were faster
-- error_rate: errors / calls
-- refusal_rate: refused / calls
-- guardrail_rate: calls with a trigger / calls
-- thumbs: thumbs given
-- thumbs_up_share: thumbs up / thumbs
WITH judged AS (
    SELECT call_id, count(*) AS thumbs, count(*) FILTER (score > 0) AS up
    FROM feedback WHERE kind = 'thumbs' AND call_id IS NOT NULL GROUP BY call_id
)
SELECT c.app, c.prompt_name, c.prompt_version, min(c.ts) AS first_ts, max(c.ts) AS last_ts,
    count(*) AS calls,
    avg(c.cost_usd) AS cost_per_call_usd,
    avg(c.output_tokens) AS output_tokens_per_call,
    quantile_cont(c.latency_ms, 0.5) AS latency_p50_ms,
    count(*) FILTER (c.status = 'error') / count(*) AS error_rate,
    count(*) FILTER (c.refused) / count(*) AS refusal_rate,
    count(*) FILTER (c.guardrail_triggered) / count(*) AS guardrail_rate,
    coalesce(sum(j.thumbs), 0)::BIGINT AS thumbs,
    sum(j.up) / nullif(sum(j.thumbs), 0) AS thumbs_up_share
FROM calls AS c
LEFT JOIN judged AS j ON j.call_id = c.id
WHERE c.prompt_version IS NOT NULL OR c.prompt_name IS NOT NULL
GROUP BY c.app, c.prompt_name, c.prompt_version
