"""What is expected of feedback."""

from __future__ import annotations

from jobs.data_quality.suite import Check, Suite
from jobs.data_quality.suites.events import between, measures, not_null, one_of, standard
from jobs.data_quality.suites.links import linked, orphan_share

_TABLE = "raw_feedback"
FEEDBACK = Suite(
    "feedback",
    _TABLE,
    rows=(
        *map(not_null, ("id", "ts", "kind", "_partition", "_offset")),
        one_of("kind", "thumbs", "rating", "comment", "edit", "accept", "copy"),
        between("score", -1, 1),
        Check(
            "rating_in_range",
            "A rating is from 0 to 1.",
            "expect_column_values_to_be_between",
            {"column": "rating", "min_value": 0, "max_value": 1},
        ),
        Check(
            "thumbs_up_or_down",
            "Thumbs are -1 or 1.",
            "expect_column_values_to_be_in_set",
            {"column": "thumbs", "value_set": [-1, 1]},
        ),
        Check(
            "target_present",
            "Every row names a call, a trace, a session or a response.",
            "expect_column_values_to_not_be_null",
            {"column": "target"},
            "critical",
        ),
    ),
    also={
        "rating": "CASE WHEN kind = 'rating' THEN score END",
        "thumbs": "CASE WHEN kind = 'thumbs' THEN score END",
        "target": "coalesce(call_id::VARCHAR, trace_id, session_id, response_id)",
    },
    measures=measures(_TABLE, totals={"orphan_share_at_least": orphan_share(_TABLE)}),
    measured=(*standard(_TABLE), linked(_TABLE)),
)
