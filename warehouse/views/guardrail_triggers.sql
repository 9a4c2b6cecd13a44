-- Every time a guardrail did something other than pass: one row a trigger.
-- call_id: id of the call
-- guardrail: name of the guardrail
-- stage: input, output, tool or retrieval
-- action: flag, redact, block or error
-- score: risk score
-- category: risk category
-- guardrail_ms: how long the check took
-- user_facing: false where the call is a shadow or canary call
SELECT id AS call_id, ts, day, app, feature, team, tenant_id, user_id, model, prompt_version, session_id, trace_id,
    g.name AS guardrail, g.stage AS stage, g.action AS action, g.score AS score, g.category AS category,
    g.ms AS guardrail_ms, user_facing
FROM (SELECT * EXCLUDE (guardrails), unnest(guardrails) AS g FROM calls)
WHERE g.action <> 'pass'
