-- What people said of alerts: the newest verdict on each, with what the alert was about.
-- alert_id: the alert
-- verdict: useful (it was right to send it), noise (nobody needed it) or known (right, but known before it came)
-- given_at: when the verdict was given
-- actor: who gave it
-- why: why, in words
-- fired_at: when the alert was first detected; NULL where it has not landed, or is gone
-- detector: its detector
-- rule: its rule
-- severity: its severity, by its newest state
-- app: the app of its series; NULL where it is of no single app
-- series: its series, as JSON
-- title: its title, by its newest state
WITH given AS (
    SELECT "row"->>'object' AS alert_id, "row"->>'verdict' AS verdict, "at" AS given_at,
        "row"->>'actor' AS actor, "row"->>'why' AS why
    FROM log_records
    WHERE "table" = 'audit' AND ("row"->>'action') = 'alert.verdict'
    QUALIFY row_number() OVER (PARTITION BY ("row"->>'object') ORDER BY "at" DESC, _partition DESC, _offset DESC) = 1
),
landed AS (
    SELECT id, min(detected_at) AS fired_at, arg_max(detector, seq) AS detector, arg_max(rule, seq) AS rule,
        arg_max(severity, seq) AS severity, arg_max(series, seq) AS series, arg_max(title, seq) AS title
    FROM alerts
    GROUP BY id
)
SELECT g.alert_id, g.verdict, g.given_at, g.actor, g.why, l.fired_at, l.detector, l.rule, l.severity,
    json_extract_string(l.series, '$.app') AS app, l.series, l.title
FROM given AS g
LEFT JOIN landed AS l ON l.id = g.alert_id
