"""The rows that fail an expectation, as SQL for people. Pure.

Great Expectations judges a batch in memory; the same test in SQL finds the rows in the lake, all of them, later too.
Types that have no translation here give no SQL: then the alert shows the rows of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.data_quality.suite import Check, Suite, Window
from pipelines.alerts.evidence import literal

MOST_ROWS = 100
"""Rows that the SQL of an alert returns; its first column counts all of them."""
_SHOWN = {
    "raw_calls": ("id", "app", "model", "ts", "_partition", "_offset"),
    "raw_feedback": ("id", "app", "kind", "ts", "_partition", "_offset"),
    "raw_evals": ("id", "app", "name", "ts", "_partition", "_offset"),
    "rollups": ("dims", "series", "second", "_partition", "_offset"),
    "golden_cases": ("set_name", "version", "case_id", "call_id"),
}
Kwargs = Mapping[str, Any]


def failing_rows(suite: Suite, check: Check, window: Window) -> str:
    """Return a SELECT of the rows that fail ``check``; its first column is how many there are. Empty: no translation.

    Args:
        suite: whose table and batch.
        check: of ``suite.rows``.
        window: what is judged.
    """
    if check.failing:
        return window.sql(check.failing)
    test = failing_test(check.type, check.kwargs)
    if not test:
        return ""
    source = f"({suite.sql})" if suite.sql else suite.table
    shown = ["*"] if suite.sql or suite.table not in _SHOWN else [_name(column) for column in _SHOWN[suite.table]]
    more = (
        []
        if shown == ["*"]
        else [_name(c) for c in check.columns if c not in _SHOWN[suite.table] and c not in suite.also]
    )
    extra = "".join(
        f", {expression} AS {_name(name)}" for name, expression in suite.also.items() if name in check.columns
    )
    given = f"SELECT *{extra} FROM {source} WHERE {suite.where}" if not suite.sql else f"SELECT * FROM {source}"
    chosen = ", ".join([*shown, *more])
    text = f"SELECT count(*) OVER () AS observed, {chosen} FROM (FROM ({given}) {test}) LIMIT {MOST_ROWS}"
    return window.sql(text)


def window_rows(suite: Suite, window: Window) -> str:
    """Return a SELECT of the rows of the window, for an expectation without translation."""
    source = f"({suite.sql})" if suite.sql else f"{suite.table} WHERE {suite.where}"
    return window.sql(f"SELECT count(*) OVER () AS observed, * FROM {source} LIMIT {MOST_ROWS}")


def failing_test(kind: str, kwargs: Kwargs) -> str:
    """Return ``WHERE ...`` or ``QUALIFY ...`` that keeps what fails; empty where there is no translation."""
    if kwargs.get("row_condition"):
        return ""
    make = _TESTS.get(kind)
    return make(kwargs) if make else ""


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if isinstance(value, int | float) else literal(str(value))


def _column(kwargs: Kwargs) -> str:
    return _name(str(kwargs["column"]))


def _between(kwargs: Kwargs, of: str = "") -> str:
    column = of or _column(kwargs)
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    tests = []
    if low is not None:
        tests.append(f"{column} {'<=' if kwargs.get('strict_min') else '<'} {_value(low)}")
    if high is not None:
        tests.append(f"{column} {'>=' if kwargs.get('strict_max') else '>'} {_value(high)}")
    return f"WHERE {' OR '.join(tests)}" if tests else ""


def _set(kwargs: Kwargs) -> str:
    return ", ".join(map(_value, kwargs.get("value_set") or ())) or "NULL"


def _regex(kwargs: Kwargs) -> str:
    return f"regexp_matches({_column(kwargs)}, {literal('^(?:' + str(kwargs['regex']) + ')')})"


def _pair(kwargs: Kwargs) -> str:
    sign = "<" if kwargs.get("or_equal") else "<="
    return f"WHERE {_name(str(kwargs['column_A']))} {sign} {_name(str(kwargs['column_B']))}"


def _repeated(columns: Sequence[str]) -> str:
    names = ", ".join(map(_name, columns))
    present = " AND ".join(f"{_name(column)} IS NOT NULL" for column in columns)
    return f"WHERE {present} QUALIFY count(*) OVER (PARTITION BY {names}) > 1"


_TESTS: Mapping[str, Callable[[Kwargs], str]] = {
    "expect_column_values_to_not_be_null": lambda k: f"WHERE {_column(k)} IS NULL",
    "expect_column_values_to_be_null": lambda k: f"WHERE {_column(k)} IS NOT NULL",
    "expect_column_values_to_be_between": _between,
    "expect_column_value_lengths_to_be_between": lambda k: _between(k, f"length({_column(k)})"),
    "expect_column_values_to_be_in_set": lambda k: f"WHERE {_column(k)} NOT IN ({_set(k)})",
    "expect_column_values_to_not_be_in_set": lambda k: f"WHERE {_column(k)} IN ({_set(k)})",
    "expect_column_values_to_match_regex": lambda k: f"WHERE NOT {_regex(k)}",
    "expect_column_values_to_not_match_regex": lambda k: f"WHERE {_regex(k)}",
    "expect_column_pair_values_a_to_be_greater_than_b": _pair,
    "expect_column_values_to_be_unique": lambda k: _repeated([str(k["column"])]),
    "expect_compound_columns_to_be_unique": lambda k: _repeated(list(k["column_list"])),
}
"""Type of Great Expectations -> what keeps the rows that fail it; NULL fails nothing but the test for NULL."""
