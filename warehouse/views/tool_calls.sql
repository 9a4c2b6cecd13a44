-- Every tool that a model asked for or an app ran: one row a tool call.
-- call_id: id of the LLM call
-- tool: name of the tool
-- tool_call_id: the provider's id of the tool call
-- ok: whether it succeeded
-- tool_ms: how long it took
-- args: arguments, redacted like the content
-- user_facing: false where the call is a shadow or canary call
SELECT id AS call_id, ts, day, app, feature, model, trace_id, agent,
    t.name AS tool, t.id AS tool_call_id, t.ok AS ok, t.ms AS tool_ms, t.args AS args, user_facing
FROM (SELECT * EXCLUDE (tools), unnest(tools) AS t FROM calls)
