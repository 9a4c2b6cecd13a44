"""What is expected of evaluation results."""

from __future__ import annotations

from jobs.data_quality.suite import Check, Suite
from jobs.data_quality.suites.events import Share, measures, not_null, one_of, standard
from jobs.data_quality.suites.links import linked, orphan_share

_TABLE = "raw_evals"
_PRODUCTION = "dataset IS NULL"
"""Results over a golden set name cases, and calls that the gate made."""
SHARES = (Share("failed_share", "At most 20 % of the judgements failed.", "error IS NOT NULL", 0.20),)
EVALS = Suite(
    "evals",
    _TABLE,
    rows=(
        *map(not_null, ("id", "ts", "name", "_partition", "_offset")),
        one_of("evaluator_kind", "human", "llm", "code"),
        Check(
            "score_in_range",
            "A score is a finite number from -1,000,000 to 1,000,000.",
            "expect_column_values_to_be_between",
            {"column": "score", "min_value": -1_000_000, "max_value": 1_000_000},
        ),
        Check(
            "result_present",
            "Every row has a score, a label or an error.",
            "expect_column_values_to_not_be_null",
            {"column": "result"},
            "critical",
        ),
        Check(
            "target_present",
            "Every row names a call, a trace or a response.",
            "expect_column_values_to_not_be_null",
            {"column": "target"},
            "critical",
        ),
    ),
    also={
        "result": "coalesce(score::VARCHAR, label, error)",
        "target": "coalesce(call_id::VARCHAR, trace_id, response_id, dataset)",
    },
    measures=measures(_TABLE, SHARES, {"orphan_share_at_least": orphan_share(_TABLE, _PRODUCTION)}),
    measured=(*standard(_TABLE), linked(_TABLE, _PRODUCTION), *(share.check(_TABLE) for share in SHARES)),
)
