-- What people said of calls, traces, sessions or responses, each id once.
SELECT e.* EXCLUDE (_dup)
FROM raw_feedback AS e
WHERE NOT coalesce(e._dup, false)
    AND NOT EXISTS (
        FROM late_duplicates AS d
        WHERE d._epoch = e._epoch AND d._partition = e._partition AND d._offset = e._offset
    )
