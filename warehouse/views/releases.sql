-- Releases that were marked: what alerts name under "changes". A mark that was sent twice is shown once.
-- logged_at: when it was released
-- app: which app
-- release: its name
-- note: what changed, in words
-- release_id: identity of the mark; NULL where the record has none
-- manifest_sha256: hash of the manifest; equal hashes are equal manifests
-- manifest: part or part.name -> version or hash, as JSON
-- actor: who marked it
-- entry: the whole record
SELECT "at" AS logged_at, "row"->>'app' AS app, "row"->>'release' AS release, "row"->>'note' AS note,
    "row"->>'id' AS release_id, "row"->>'manifest_sha256' AS manifest_sha256, ("row"->'manifest')::JSON AS manifest,
    "row"->>'actor' AS actor, "row"::JSON AS entry
FROM log_records
WHERE "table" = 'releases'
QUALIFY "row"->>'id' IS NULL OR row_number() OVER (PARTITION BY "row"->>'id' ORDER BY _partition, _offset) = 1
