-- How calls ended per hour, app and model; shadow and canary calls are left out.
-- hour: hour of the call, UTC
-- calls: calls
-- errors: calls that ended in an error
-- blocked: calls that a guardrail blocked
-- refused: calls that the model refused
-- truncated: answers cut at the token limit
-- error_rate: errors / calls
-- top_error: the most frequent error type
SELECT date_trunc('hour', ts) AS hour, app, provider, coalesce(response_model, model) AS model,
    count(*) AS calls,
    count(*) FILTER (status = 'error') AS errors,
    count(*) FILTER (status = 'blocked') AS blocked,
    count(*) FILTER (refused) AS refused,
    count(*) FILTER (finish_reason IN ('length', 'max_tokens')) AS truncated,
    count(*) FILTER (status = 'error') / count(*) AS error_rate,
    mode(error_type) AS top_error
FROM calls
WHERE user_facing
GROUP BY ALL
