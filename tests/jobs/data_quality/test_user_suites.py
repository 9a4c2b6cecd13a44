"""Suites of users: what is read, what is refused in one line, and the SQL that finds the failing rows."""

from __future__ import annotations

import json

import duckdb
import pytest

from jobs.data_quality import Check, Suite
from jobs.data_quality.failing import failing_rows, failing_test
from jobs.data_quality.user_suites import read_suites
from tests.jobs.data_quality.lake import WELL_HOUR

NOT_NULL = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "tenant_id"}, "severity": "critical"}


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


def test_a_suite_of_great_expectations_own_json_is_read(tmp_path):
    write(
        tmp_path,
        "a.json",
        {"name": "tenants", "meta": {"table": "calls", "where": "app = 'x'"}, "expectations": [NOT_NULL]},
    )
    ((suite,), problems) = read_suites(tmp_path)
    assert problems == ()
    (check,) = suite.rows
    assert (suite.name, suite.table, check.severity) == ("tenants", "raw_calls", "critical")
    assert suite.where.endswith("AND NOT coalesce(_dup, false) AND (app = 'x')")
    assert "_landed_at >= $since" in suite.where
    assert check.name == "column_values_to_not_be_null.tenant_id"


def test_yaml_and_a_query_of_ones_own_are_read(tmp_path):
    text = """
        meta: {sql: SELECT 1 AS n WHERE now() > $since}
        expectations: [{type: expect_column_to_exist, kwargs: {column: n}}]
    """
    write(tmp_path, "mine.yaml", text)
    ((suite,), problems) = read_suites(tmp_path)
    assert (suite.name, suite.sql, problems) == ("mine", "SELECT 1 AS n WHERE now() > $since", ())


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "Expecting"),
        ("[]", "it is no suite"),
        ({"expectations": []}, "meta.table '' is none of"),
        ({"meta": {"table": "calls"}, "expectations": [{"type": 1}]}, "expectation 1: it needs type"),
        ({"meta": {"table": "calls"}, "expectations": [NOT_NULL, NOT_NULL]}, "two expectations are called"),
        ({"meta": {"table": "calls"}, "expectations": [{**NOT_NULL, "severity": "loud"}]}, "severity 'loud' is none"),
        ({"meta": {"table": "dead; DROP"}, "expectations": []}, "is none of"),
        ({"name": "../up", "meta": {"table": "calls"}, "expectations": []}, "use letters"),
        ({"name": "calls", "meta": {"table": "calls"}, "expectations": []}, "the name calls is taken"),
        ("x" * (1 << 20) + "xx", "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_suite_is_one_line_and_the_others_are_read(tmp_path, content, word):
    write(tmp_path, "a.json", content)
    write(tmp_path, "b.json", {"meta": {"table": "feedback"}, "expectations": []})
    suites, (problem,) = read_suites(tmp_path, taken=["calls"])
    assert [suite.name for suite in suites] == ["b"]
    assert problem.startswith(f"{tmp_path / 'a.json'}: ")
    assert word in problem
    assert "\n" not in problem


def test_without_the_folder_there_is_no_suite(tmp_path):
    assert read_suites(tmp_path / "none") == ((), ())


ROWS = "(VALUES (1, 'a', 3), (2, NULL, 2), (3, 'b''c', NULL), (4, 'a', 5)) AS t(n, s, m)"


@pytest.mark.parametrize(
    ("kind", "kwargs", "failing"),
    [
        ("expect_column_values_to_not_be_null", {"column": "s"}, [2]),
        ("expect_column_values_to_be_null", {"column": "m"}, [1, 2, 4]),
        ("expect_column_values_to_be_between", {"column": "n", "min_value": 2, "max_value": 3}, [1, 4]),
        ("expect_column_values_to_be_between", {"column": "n", "min_value": 2, "strict_min": True}, [1, 2]),
        ("expect_column_value_lengths_to_be_between", {"column": "s", "max_value": 1}, [3]),
        ("expect_column_values_to_be_in_set", {"column": "s", "value_set": ["b'c"]}, [1, 4]),
        ("expect_column_values_to_not_be_in_set", {"column": "n", "value_set": [1, 9]}, [1]),
        ("expect_column_values_to_match_regex", {"column": "s", "regex": "a"}, [3]),
        ("expect_column_values_to_not_match_regex", {"column": "s", "regex": "b'"}, [3]),
        ("expect_column_values_to_be_unique", {"column": "s"}, [1, 4]),
        ("expect_compound_columns_to_be_unique", {"column_list": ["s", "m"]}, []),
        ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "m", "column_B": "n", "or_equal": True}, []),
        ("expect_column_pair_values_a_to_be_greater_than_b", {"column_A": "m", "column_B": "n"}, [2]),
    ],
)
def test_the_rows_that_fail_are_found_by_sql(kind, kwargs, failing):
    found = duckdb.sql(f"SELECT n FROM (FROM {ROWS} {failing_test(kind, kwargs)}) ORDER BY n").fetchall()
    assert [n for (n,) in found] == failing


def test_a_hostile_name_of_a_column_stays_a_name():
    check = Check("x", "", "expect_column_values_to_not_be_null", {"column": 'a" OR true; --'})
    text = failing_rows(Suite("x", "raw_calls", (check,)), check, WELL_HOUR)
    with pytest.raises(duckdb.Error, match="raw_calls"):
        duckdb.sql(text)  # it parses: only the table is missing here


def test_a_type_without_translation_gives_no_sql():
    assert failing_test("expect_column_mean_to_be_between", {"column": "n"}) == ""
    assert failing_test("expect_column_values_to_not_be_null", {"column": "n", "row_condition": "x"}) == ""
