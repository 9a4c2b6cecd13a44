-- Alerts that somebody acknowledged: they get no updates, only their end. The first acknowledgement of each alert.
-- alert_id: the alert
-- acknowledged_at: when
-- actor: who
-- why: why, in words
SELECT "row"->>'object' AS alert_id, "at" AS acknowledged_at, "row"->>'actor' AS actor, "row"->>'why' AS why
FROM log_records
WHERE "table" = 'audit' AND ("row"->>'action') = 'alert.ack'
QUALIFY row_number() OVER (PARTITION BY ("row"->>'object') ORDER BY _partition, _offset) = 1
