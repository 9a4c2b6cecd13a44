-- Silences of alerts: what is not sent, from when until when, who decided it and why.
-- silence_id: id of the silence
-- matchers: what an alert must have to be silenced: rule, detector, severity or dimensions of its series
-- starts_at: from when
-- ends_at: until when; the moment at which it was lifted, where that is earlier
-- actor: who made it
-- why: why, in words
-- logged_at: when it was made
-- lifted_by: who lifted it; NULL where nobody did
WITH decided AS (
    SELECT "at" AS logged_at, "row"::JSON AS entry, _partition, _offset
    FROM log_records
    WHERE "table" = 'audit' AND ("row"->>'action') IN ('alert.silence', 'alert.unsilence')
),
made AS (
    SELECT entry->>'object' AS silence_id, entry->'silence' AS silence, entry->>'actor' AS actor, logged_at
    FROM decided
    WHERE (entry->>'action') = 'alert.silence'
    QUALIFY row_number() OVER (PARTITION BY (entry->>'object') ORDER BY _partition, _offset) = 1
),
lifted AS (
    SELECT entry->>'object' AS silence_id, min(logged_at) AS lifted_at, arg_min(entry->>'actor', logged_at) AS lifted_by
    FROM decided
    WHERE (entry->>'action') = 'alert.unsilence'
    GROUP BY ALL
)
SELECT m.silence_id, m.silence->'matchers' AS matchers,
    make_timestamptz((m.silence->>'start')::BIGINT) AS starts_at,
    least(make_timestamptz((m.silence->>'end')::BIGINT), l.lifted_at) AS ends_at,
    m.actor, m.silence->>'why' AS why, m.logged_at, l.lifted_by
FROM made AS m
LEFT JOIN lifted AS l USING (silence_id)
