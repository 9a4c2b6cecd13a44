-- How much the caches did per day, app and model: the app's answer cache and the provider's prompt cache. Without shadow and canary calls.
-- day: day of the call, UTC
-- calls: calls
-- answer_cache_hits: calls that the app's own cache answered
-- answer_hit_rate: answer_cache_hits / calls that said whether a cache was asked
-- saved_usd: what the hits saved, as the app said
-- prompt_cache_share: input tokens read from the provider's cache / all input tokens
-- cache_read_tokens: input tokens served from the provider's prompt cache
-- cache_write_tokens: input tokens written to it
SELECT day, app, feature, coalesce(response_model, model) AS model,
    count(*) AS calls,
    count(*) FILTER (answer_cache IN ('exact', 'semantic')) AS answer_cache_hits,
    answer_cache_hits / nullif(count(answer_cache), 0) AS answer_hit_rate,
    sum(answer_cache_saved_usd) AS saved_usd,
    sum(cache_read_tokens)::BIGINT AS cache_read_tokens,
    sum(cache_write_tokens)::BIGINT AS cache_write_tokens,
    sum(cache_read_tokens) / nullif(sum(input_tokens), 0) AS prompt_cache_share
FROM calls
WHERE user_facing
GROUP BY ALL
