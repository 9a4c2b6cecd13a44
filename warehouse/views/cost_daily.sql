-- What each app, feature, team, tenant and model cost per day; shadow and canary calls are paid for and counted.
-- day: day of the call, UTC
-- calls: calls, shadow and canary calls included, as everywhere in this view: it is the bill
-- shadow_calls: of calls, those of shadow and canary variants
-- shadow_cost_usd: of cost_usd, the part that they cost; NULL where there are none
-- cost_usd: sum of known costs
-- unpriced_calls: calls whose cost is not known and is in no sum
-- partly_priced_calls: calls of whose usage a part has no price: the sum has the rest
-- answer_cache_saved_usd: what the app's own answer cache saved, as the app said
SELECT day, app, feature, team, tenant_id, provider, coalesce(response_model, model) AS model,
    count(*) AS calls,
    sum(input_tokens)::BIGINT AS input_tokens,
    sum(output_tokens)::BIGINT AS output_tokens,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
    sum(cost_usd) AS cost_usd,
    count(*) FILTER (cost_usd IS NULL) AS unpriced_calls,
    count(*) FILTER (cost_status = 'partly_priced') AS partly_priced_calls,
    sum(answer_cache_saved_usd) AS answer_cache_saved_usd,
    count(*) FILTER (NOT user_facing) AS shadow_calls,
    sum(cost_usd) FILTER (NOT user_facing) AS shadow_cost_usd
FROM calls
GROUP BY ALL
