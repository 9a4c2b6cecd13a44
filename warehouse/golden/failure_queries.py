"""The SQL of ``failures``, in the order in which it runs. Parameters are named; no value is part of the text.

Of all calls only columns that are narrow are read; texts are checked where a call failed or has feedback, and read
where it was drawn. So the cost depends on the number of failures, not of calls.
"""

from __future__ import annotations

from schemas.variants import NOT_USER_FACING

_INSIDE = "ts >= make_timestamptz($since::BIGINT) AND ts < make_timestamptz($until::BIGINT)"
# as the views have it, but without the costs that `calls` adds up
_ONCE = """
NOT EXISTS (
    FROM late_duplicates AS d WHERE d._epoch = c._epoch AND d._partition = c._partition AND d._offset = c._offset
)
"""
# 'no' of a scorer where low is good means that all is well; 'fail' means the same everywhere
_LOW = """
CASE
    WHEN lower(trim(label)) IN ('fail', 'failed', 'failure') THEN true
    WHEN list_contains($scorers::VARCHAR[], name)
        THEN coalesce(score < ($thresholds::DOUBLE[])[list_position($scorers::VARCHAR[], name)], false)
    WHEN len(list_filter($low_is_good::VARCHAR[], lambda word: contains(lower(name), word))) > 0
        AND len(list_filter($high_is_good::VARCHAR[], lambda word: contains(lower(name), word))) = 0 THEN false
    WHEN lower(trim(label)) IN ('false', 'no', 'incorrect', 'wrong', 'bad') THEN true
    WHEN lower(trim(label)) IN ('pass', 'passed', 'true', 'yes', 'correct', 'good') THEN false
    ELSE score >= 0 AND score < 0.5
END
"""
# what shadow and canary calls were asked is no traffic of users; where they fail they may still become cases
_DRAWN = f"""
coalesce(status, 'ok') = 'ok' AND left(sha256($seed || '/healthy/' || id::VARCHAR), 8) < $healthy_below
    AND NOT coalesce(regexp_matches(variant, '{NOT_USER_FACING}', 'i'), false)
"""
CALLS = f"SELECT count(*) FROM raw_calls WHERE day >= $first AND day <= $last AND {_INSIDE}"
# $first, $last: days of the window; $before: first day of calls that late feedback may be about.
# Hashed texts can be no test, vectors have none.
_USABLE = f"""
WITH looked_at AS (
    SELECT id, ts, day, _epoch, _partition, _offset, app, feature, response_id, trace_id,
        CASE WHEN {_INSIDE} THEN coalesce(nullif(list_filter([
            CASE WHEN guardrail_triggered THEN 'guardrail' END,
            CASE WHEN status = 'blocked' OR blocked_by IS NOT NULL THEN 'blocked' END,
            CASE WHEN status = 'error' THEN 'error' END,
            CASE WHEN refused OR list_contains($refused::VARCHAR[], lower(finish_reason)) THEN 'refused' END,
            CASE WHEN list_contains($truncated::VARCHAR[], lower(finish_reason)) THEN 'truncated' END
        ], lambda reason: reason IS NOT NULL), []), CASE WHEN {_DRAWN} THEN ['healthy'] END, []) ELSE [] END AS own,
        id IN (SELECT call_id FROM said) OR id IN (SELECT id FROM drifted) AS by_id,
        response_id IN (SELECT response_id FROM said) AS by_response,
        trace_id IN (SELECT trace_id FROM said) AS by_trace
    FROM raw_calls
    WHERE day >= $before AND day <= $last AND NOT coalesce(_dup, false)
        AND content_mode IS DISTINCT FROM 'hashed' AND op IS DISTINCT FROM 'embeddings'
        AND (len($envs::VARCHAR[]) = 0 OR list_contains($envs::VARCHAR[], lower(env)))
        AND NOT coalesce(list_contains($not_envs::VARCHAR[], lower(env)), false)
)
SELECT l.id, l.ts, day, _epoch, _partition, _offset, l.app, l.feature, l.own,
    CASE WHEN by_response THEN l.response_id END AS response_id, CASE WHEN by_trace THEN l.trace_id END AS trace_id
FROM looked_at AS l JOIN raw_calls AS c USING (day, _epoch, _partition, _offset)
WHERE (len(l.own) > 0 OR by_id OR by_response OR by_trace)
    AND c.day >= $before AND c.day <= $last AND {_ONCE}
    -- names both sides, so it stays above the join: below it, it would decode the texts of all calls (120 ms, not 24)
    AND CASE WHEN l.id IS NOT NULL THEN trim(c.input_text) <> '' END
"""
# a comment beside a thumb up is praise; one alone may be anything, and a reviewer decides
_FEEDBACK = f"""
SELECT call_id, response_id, trace_id, ts, id AS feedback_id,
    CASE kind WHEN 'thumbs' THEN 'thumbs_down' WHEN 'rating' THEN 'low_rating' WHEN 'comment' THEN 'comment'
        ELSE 'edited' END AS reason
FROM feedback
WHERE day >= $first AND day <= $last AND {_INSIDE}
    AND ((kind = 'thumbs' AND score < 0) OR (kind = 'rating' AND score < 0.5) OR (kind = 'edit' AND edited <> '')
        OR (kind = 'comment' AND trim(comment) <> '' AND coalesce(score, 0) <= 0 AND coalesce(call_id, uuid()) NOT IN (
            SELECT call_id FROM feedback
            WHERE day >= $first AND day <= $last AND call_id IS NOT NULL AND score > 0 AND kind IN ('thumbs', 'rating')
        )))
UNION ALL
SELECT call_id, response_id, trace_id, ts, NULL, 'low_score:' || name
FROM evals WHERE day >= $first AND day <= $last AND {_INSIDE} AND dataset IS NULL AND {_LOW}
"""
# each a table: what a step needed is given back before the next one, and what it made may spill
STEPS = {
    "said": _FEEDBACK,
    "drifted": """
SELECT DISTINCT TRY_CAST(call_id AS UUID) AS id
FROM (
    SELECT unnest(call_ids) AS call_id FROM alerts
    WHERE detector = 'drift' AND detected_at >= make_timestamptz($since::BIGINT)
        AND detected_at < make_timestamptz($until::BIGINT)
)
""",
    "usable": _USABLE,
    "judged": """
WITH of_response AS (
    SELECT response_id, first(id ORDER BY ts DESC, id DESC) AS id
    FROM usable WHERE response_id IS NOT NULL GROUP BY response_id
),
of_trace AS (SELECT trace_id, ts, min(id) AS id FROM usable WHERE trace_id IS NOT NULL GROUP BY trace_id, ts),
begun AS (SELECT trace_id, first(id ORDER BY ts) AS id FROM of_trace GROUP BY trace_id)
-- the last call that the feedback can mean; the first where clocks differ
SELECT coalesce(u.id, r.id, t.id, b.id) AS id, s.reason, s.ts, s.feedback_id
FROM said AS s
LEFT JOIN (SELECT DISTINCT id FROM usable WHERE id IN (SELECT call_id FROM said)) AS u ON u.id = s.call_id
LEFT JOIN of_response AS r ON r.response_id = s.response_id
ASOF LEFT JOIN of_trace AS t ON t.trace_id = s.trace_id AND t.ts <= s.ts
LEFT JOIN begun AS b ON b.trace_id = s.trace_id
UNION ALL
SELECT id, 'drift', NULL, NULL FROM drifted
""",
    "marked": """
WITH all_reasons AS (
    SELECT u.*, CASE WHEN j.id IS NULL THEN u.own
        ELSE list_concat(list_filter(u.own, lambda reason: reason <> 'healthy'), j.reasons) END AS reasons
    FROM usable AS u
    LEFT JOIN (SELECT id, list_sort(list(DISTINCT reason)) AS reasons FROM judged GROUP BY id) AS j USING (id)
    WHERE len(u.own) > 0 OR j.id IS NOT NULL
)
SELECT id, day, _epoch, _partition, _offset, app, feature, reasons,
    list_transform(reasons, lambda reason: CASE WHEN reason = 'healthy' THEN 0 ELSE 1 + len($kinds::VARCHAR[])
        - list_position($kinds::VARCHAR[], split_part(reason, ':', 1)) END) AS weights
FROM all_reasons
""",
    "frequent": """
SELECT app, feature FROM marked GROUP BY app, feature
QUALIFY row_number() OVER (PARTITION BY app ORDER BY count(*) DESC, feature) <= $features
""",
    "failed": """
SELECT m.* EXCLUDE (weights), list_sum(weights)::BIGINT AS severity, list_max(weights) AS gravest,
    left(sha256($seed || '/' || id::VARCHAR), 16) AS draw,
    CASE WHEN f.app IS NULL THEN '*' ELSE m.feature END AS stratum_feature
FROM marked AS m LEFT JOIN frequent AS f ON f.app = m.app AND f.feature IS NOT DISTINCT FROM m.feature
""",
}
STRATA = "SELECT count(*), gravest > 0 FROM failed GROUP BY app, stratum_feature, gravest"
CHOSEN = """
CREATE OR REPLACE TEMP TABLE chosen AS
WITH strata AS (
    SELECT min_by(f, (-severity, draw, id), $depth) AS calls FROM failed AS f GROUP BY app, stratum_feature, gravest
)
SELECT c.*, e.edit_id, row_number() OVER (ORDER BY nth, severity DESC, draw, c.id) AS place
FROM (SELECT unnest(calls, max_depth := 2), generate_subscripts(calls, 1) AS nth FROM strata) AS c
LEFT JOIN (
    SELECT id, first(feedback_id ORDER BY ts DESC, feedback_id DESC) AS edit_id
    FROM judged WHERE reason = 'edited' GROUP BY id
) AS e USING (id)
ORDER BY place LIMIT $most
"""
_OF_CHOSEN = """
FROM chosen AS w
JOIN raw_calls AS c USING (day, _epoch, _partition, _offset)
LEFT JOIN feedback AS f ON f.id = w.edit_id AND f.day >= $first AND f.day <= $last
WHERE c.day >= $before AND c.day <= $last
"""
# first how large they are: an Arrow reader hands out 2,048 rows at a time, and one may be a quarter of a megabyte
SIZES = (
    """
SELECT w.place, strlen(concat(c.system_text, c.messages::VARCHAR, c.input_text, c.output_text,
    c.retrieval_docs::VARCHAR, c.prompt_variables::VARCHAR, f.edited)) AS size
"""
    + _OF_CHOSEN
    + "ORDER BY w.place"
)
WHOLE = (
    """
SELECT c.id::VARCHAR AS call_id, c._epoch AS call_epoch, c._partition AS call_partition, c._offset AS call_offset,
    c.ts, c.app, c.feature, c.model, c.response_model, c.prompt_name, c.prompt_version, c.system_text, c.messages,
    c.input_text, c.output_text, c.retrieval_docs, c.prompt_variables::VARCHAR AS variables, w.stratum_feature,
    w.reasons, f.edited
"""
    + _OF_CHOSEN
    + "AND w.place <= $upto ORDER BY w.place"
)
