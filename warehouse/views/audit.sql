-- Who did what to the system: adoptions, acknowledgements, verdicts, replays, forgetting.
-- logged_at: when
-- actor: who
-- action: what
-- object: to what
-- entry: the whole record
SELECT "at" AS logged_at, "row"->>'actor' AS actor, "row"->>'action' AS action, "row"->>'object' AS object, "row"::JSON AS entry
FROM log_records
WHERE "table" = 'audit'
