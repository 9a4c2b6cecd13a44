-- Releases that were marked: what alerts name under "changes".
-- logged_at: when
-- app: which app
-- release: its release
-- note: what changed, in words
-- entry: the whole record
SELECT "at" AS logged_at, "row"->>'app' AS app, "row"->>'release' AS release, "row"->>'note' AS note, "row"::JSON AS entry
FROM log_records
WHERE "table" = 'releases'
