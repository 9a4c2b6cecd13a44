-- The 1,000 dearest calls of the last 7 days of data, dearest first.
-- call_id: id of the call
SELECT id AS call_id, ts, app, feature, team, tenant_id, user_id, coalesce(response_model, model) AS model,
    input_tokens, output_tokens, reasoning_tokens, cost_usd, latency_ms, status, prompt_name, prompt_version,
    session_id, trace_id, input_text, output_text
FROM calls
WHERE day > (SELECT max(day) FROM raw_calls) - 7 AND cost_usd IS NOT NULL
ORDER BY cost_usd DESC, id
LIMIT 1000
