"""What is expected of the golden sets: their newest versions, whole."""

from __future__ import annotations

from jobs.data_quality.suite import Check, Suite
from jobs.data_quality.suites.events import not_null

_NEWEST = "(set_name, version) IN (SELECT (set_name, max(version)) FROM golden_versions GROUP BY set_name)"
_DOUBLED = (
    "SELECT count(*) OVER () AS observed, set_name, version, case_id, count(*) AS times FROM golden_cases "
    "GROUP BY set_name, version, case_id HAVING count(*) > 1"
)
_WRONG = (
    "SELECT count(*) OVER () AS observed, v.set_name, v.version, v.cases AS declared, count(c.case_id) AS found "
    "FROM golden_versions AS v LEFT JOIN golden_cases AS c USING (set_name, version) "
    "GROUP BY v.set_name, v.version, v.cases HAVING count(c.case_id) <> v.cases"
)
_NO_VERSION = (
    "SELECT count(*) OVER () AS observed, set_name, version, case_id FROM golden_cases AS c "
    "WHERE NOT EXISTS (FROM golden_versions AS v WHERE v.set_name = c.set_name AND v.version = c.version)"
)
GOLDEN_CASES = Suite(
    "golden_cases",
    "golden_cases",
    where=_NEWEST,
    rows=(
        *map(not_null, ("set_name", "version", "case_id", "input_text")),
        Check(
            "version_in_range",
            "Versions count from 1.",
            "expect_column_values_to_be_between",
            {"column": "version", "min_value": 1},
        ),
        Check(
            "added_before",
            "No case is newer than the version that holds it.",
            "expect_column_pair_values_a_to_be_greater_than_b",
            {
                "column_A": "version",
                "column_B": "added_in",
                "or_equal": True,
                "ignore_row_if": "either_value_is_missing",
            },
        ),
    ),
    measures=f"""
SELECT '' AS scope, (SELECT count(*) FROM golden_cases WHERE {_NEWEST})::DOUBLE AS rows,
    (SELECT count(*) FROM ({_DOUBLED}))::DOUBLE AS doubled_cases,
    (SELECT count(*) FROM ({_WRONG}))::DOUBLE AS versions_apart,
    (SELECT count(*) FROM ({_NO_VERSION}))::DOUBLE AS cases_without_version
""",
    measured=(
        Check(
            "cases_unique",
            "No version holds a case twice.",
            "expect_column_values_to_be_between",
            {"column": "doubled_cases", "max_value": 0},
            "critical",
            failing=f"{_DOUBLED} LIMIT 100",
        ),
        Check(
            "versions_complete",
            "Every version holds as many cases as it declares.",
            "expect_column_values_to_be_between",
            {"column": "versions_apart", "max_value": 0},
            "critical",
            failing=f"{_WRONG} LIMIT 100",
            unit="versions",
        ),
        Check(
            "versions_exist",
            "Every case belongs to a version that is there.",
            "expect_column_values_to_be_between",
            {"column": "cases_without_version", "max_value": 0},
            "critical",
            failing=f"{_NO_VERSION} LIMIT 100",
        ),
    ),
)
