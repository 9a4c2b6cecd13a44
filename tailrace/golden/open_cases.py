"""Cases that wait for a review, with what people wrote of their calls."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from jobs.golden import redactor
from pipelines.decode.rules import clean_text

OPEN = """
WITH opened AS (
    SELECT c.* FROM golden_cases AS c
    LEFT JOIN golden_verdicts AS r ON r.case_id = c.case_id
    WHERE c.set_name = $1 AND c.version = $2 AND c.input_text IS NOT NULL AND r.verdict IS NULL
),
of_call AS (
    SELECT DISTINCT o.case_id, k.id, k.response_id, k.trace_id
    FROM opened AS o JOIN calls AS k ON k.id = TRY_CAST(o.call_id AS UUID)
    WHERE k.day BETWEEN (SELECT min(ts)::DATE - 8 FROM opened) AND (SELECT max(ts)::DATE + 8 FROM opened)
),
written AS (SELECT * FROM feedback WHERE trim(comment) <> ''),
said AS (
    SELECT o.case_id, f.id, f.ts, f.kind, f.score, f.comment FROM written AS f JOIN of_call AS o ON f.call_id = o.id
    UNION SELECT o.case_id, f.id, f.ts, f.kind, f.score, f.comment
    FROM written AS f JOIN of_call AS o ON f.call_id IS NULL AND f.response_id = o.response_id
    UNION SELECT o.case_id, f.id, f.ts, f.kind, f.score, f.comment
    FROM written AS f JOIN of_call AS o ON f.call_id IS NULL AND f.response_id IS NULL AND f.trace_id = o.trace_id
),
by_case AS (
    SELECT case_id,
        list(concat_ws(' ', CASE WHEN kind <> 'comment' THEN kind END, score::VARCHAR) ORDER BY ts, id) AS said_as,
        list("comment" ORDER BY ts, id) AS said
    FROM said GROUP BY case_id
)
SELECT o.*, b.said_as, b.said FROM opened AS o LEFT JOIN by_case AS b USING (case_id) ORDER BY o.stratum, o.case_id
"""
"""Open cases of a set and version. Feedback is about a call by its id, else by that of the response, else of the trace;
the day of a call may be up to a week off its time (docs/how-to/sql.md)."""


def with_comments(rows: pa.Table) -> list[dict[str, Any]]:
    """Return the rows of ``OPEN`` as cases with ``comments``: a line each, redacted like the texts of the case."""
    return [_case(row) for row in rows.to_pylist()]


def _case(row: dict[str, Any]) -> dict[str, Any]:
    comments, kinds = row.pop("said") or [], row.pop("said_as") or []
    text = redactor(row, row["expected"], *comments)
    lines = [f"{kind}: {comment}" if kind else comment for kind, comment in zip(kinds, comments, strict=True)]
    return {**row, "comments": clean_text(text("\n".join(lines)) or "")}
