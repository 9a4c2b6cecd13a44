-- What one good outcome cost per day, app and feature: failed and disliked calls are paid for too. Without shadow and canary calls.
-- day: day of the call, UTC
-- calls: calls
-- successes: calls that ended ok, were not refused, and got no thumbs-down
-- cost_usd: sum of known costs of all calls
-- cost_per_success_usd: cost_usd / successes
WITH disliked AS (
    SELECT DISTINCT call_id FROM feedback WHERE kind = 'thumbs' AND score < 0 AND call_id IS NOT NULL
)
SELECT c.day, c.app, c.feature,
    count(*) AS calls,
    count(*) FILTER (c.status = 'ok' AND NOT coalesce(c.refused, false) AND d.call_id IS NULL)
        AS successes,
    sum(c.cost_usd) AS cost_usd,
    (sum(c.cost_usd) / nullif(successes, 0))::DOUBLE AS cost_per_success_usd
FROM calls AS c
LEFT JOIN disliked AS d ON d.call_id = c.id
WHERE c.user_facing
GROUP BY c.day, c.app, c.feature
