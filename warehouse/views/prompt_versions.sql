-- Every version of every prompt template next to its siblings: volume, cost, speed, refusals, feedback. Numbers are of user-facing calls.
-- first_ts: first call with it
-- last_ts: last call with it
-- calls: user-facing calls; the numbers below are theirs, NULL where there is none
-- shadow_calls: calls of shadow and canary variants
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
    count(*) FILTER (c.user_facing) AS calls,
    count(*) FILTER (NOT c.user_facing) AS shadow_calls,
    avg(c.cost_usd) FILTER (c.user_facing) AS cost_per_call_usd,
    avg(c.output_tokens) FILTER (c.user_facing) AS output_tokens_per_call,
    quantile_cont(c.latency_ms, 0.5) FILTER (c.user_facing) AS latency_p50_ms,
    count(*) FILTER (c.user_facing AND c.status = 'error') / nullif(count(*) FILTER (c.user_facing), 0) AS error_rate,
    count(*) FILTER (c.user_facing AND c.refused) / nullif(count(*) FILTER (c.user_facing), 0) AS refusal_rate,
    count(*) FILTER (c.user_facing AND c.guardrail_triggered) / nullif(count(*) FILTER (c.user_facing), 0)
        AS guardrail_rate,
    coalesce(sum(j.thumbs) FILTER (c.user_facing), 0)::BIGINT AS thumbs,
    sum(j.up) FILTER (c.user_facing) / nullif(sum(j.thumbs) FILTER (c.user_facing), 0) AS thumbs_up_share
FROM calls AS c
LEFT JOIN judged AS j ON j.call_id = c.id
WHERE c.prompt_version IS NOT NULL OR c.prompt_name IS NOT NULL
GROUP BY c.app, c.prompt_name, c.prompt_version
