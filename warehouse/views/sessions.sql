-- Conversations: when they ran, how long, what they cost, how they went.
-- first_ts: start of the first call
-- last_ts: start of the last call
-- calls: calls, those of shadow and canary variants as well: this is one conversation, no total over users
-- user_facing_calls: of them, not of a shadow or canary variant
-- users: different users
-- errors: calls that ended in an error
-- guardrail_triggers: calls on which a guardrail triggered
-- cost_usd: sum of known costs
-- thumbs_down: thumbs-down given to the session or one of its calls
WITH down AS (
    SELECT coalesce(f.session_id, c.session_id) AS session_id, count(*) AS thumbs_down
    FROM feedback AS f
    LEFT JOIN calls AS c ON c.id = f.call_id
    WHERE f.kind = 'thumbs' AND f.score < 0
    GROUP BY ALL
)
SELECT c.session_id, any_value(c.app) AS app, min(c.ts) AS first_ts, max(c.ts) AS last_ts,
    count(*) AS calls,
    count(*) FILTER (c.user_facing) AS user_facing_calls,
    count(DISTINCT c.user_id) AS users,
    count(*) FILTER (c.status = 'error') AS errors,
    count(*) FILTER (c.guardrail_triggered) AS guardrail_triggers,
    sum(c.cost_usd) AS cost_usd,
    coalesce(any_value(d.thumbs_down), 0) AS thumbs_down
FROM calls AS c
LEFT JOIN down AS d USING (session_id)
WHERE c.session_id IS NOT NULL
GROUP BY c.session_id
