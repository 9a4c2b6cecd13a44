-- How often the cost that providers and gateways reported differs from the computed one by more than 1 %, per day.
-- day: day of the call, UTC
-- reported_calls: calls with a reported cost above 0
-- compared_calls: of them, priced as a whole by the price book, and not answered by the app's own cache
-- differing_calls: of those, with the flag cost_differs
-- differing_share: differing_calls / compared_calls
-- reported_usd: what was reported for the compared calls
-- computed_usd: what the price book says of them
-- partly_priced_calls: calls of whose usage a part has no price
-- unpriced_calls: calls without a known cost
WITH checked AS (
    SELECT *, cost_reported_usd > 0 AS reported,
        coalesce(cost_reported_usd > 0, false) AND cost_computed_usd IS NOT NULL AND cost_status <> 'partly_priced'
            AND coalesce(len(list_filter(units, lambda u: u.cost IS NULL)), 0) = 0
            AND coalesce(answer_cache NOT IN ('exact', 'semantic'), true) AS compared
    FROM calls
)
SELECT day, app, provider, coalesce(response_model, model) AS model,
    count(*) FILTER (reported) AS reported_calls,
    count(*) FILTER (compared) AS compared_calls,
    count(*) FILTER (list_contains(_flags, 'cost_differs')) AS differing_calls,
    differing_calls / nullif(compared_calls, 0) AS differing_share,
    sum(cost_reported_usd) FILTER (compared) AS reported_usd,
    sum(cost_computed_usd) FILTER (compared) AS computed_usd,
    count(*) FILTER (cost_status = 'partly_priced') AS partly_priced_calls,
    count(*) FILTER (cost_usd IS NULL) AS unpriced_calls
FROM checked
GROUP BY ALL
