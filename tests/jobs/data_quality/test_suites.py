"""Every shipped expectation holds in an hour in which all is well, and fails at the rows that break it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from jobs.data_quality import DataQualitySettings, data_quality
from jobs.data_quality.job import chosen_suites, unknown_names
from jobs.data_quality.suites import SUITES
from tests.jobs.data_quality import lake as made
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

AT = made.BROKEN + timedelta(minutes=30)
FIRST = 1000
"""Number of the first row that breaks something; the row with that number breaks the first expectation, and so on."""
CALLS = {
    "id_present": {"id": None},
    "ts_present": {"ts": None},
    "app_present": {"app": None},
    "model_present": {"model": None},
    "cost_status_present": {"cost_status": None},
    "partition_present": {"_partition": None},
    "offset_present": {"_offset": None},
    "kafka_time_present": {"_kafka_time": None},
    "status_known": {"status": "lost"},
    "latency_ms_in_range": {"latency_ms": -1.0},
    "ttft_ms_in_range": {"ttft_ms": -1.0},
    "ttft_ms_within_latency_ms": {"ttft_ms": 901.0},
    "input_tokens_in_range": {"input_tokens": 100_000_001},
    "output_tokens_in_range": {"output_tokens": -1, "reasoning_tokens": None},
    "cache_read_tokens_within_input_tokens": {"cache_read_tokens": 10},
    "reasoning_tokens_within_output_tokens": {"reasoning_tokens": 10},
    "cost_usd_in_range": {"cost_usd": 1001},
    "retries_in_range": {"retries": 101},
}
FEEDBACK = {
    "id_present": {"id": None},
    "ts_present": {"ts": None},
    "kind_present": {"kind": None},
    "partition_present": {"_partition": None},
    "offset_present": {"_offset": None},
    "kind_known": {"kind": "wave"},
    "score_in_range": {"kind": "edit", "score": 2.0},
    "rating_in_range": {"kind": "rating", "score": -0.5},
    "thumbs_up_or_down": {"kind": "thumbs", "score": 0.5},
    "target_present": {"call_id": None},
}
EVALS = {
    "id_present": {"id": None},
    "ts_present": {"ts": None},
    "name_present": {"name": None},
    "partition_present": {"_partition": None},
    "offset_present": {"_offset": None},
    "evaluator_kind_known": {"evaluator_kind": "oracle"},
    "score_in_range": {"score": 2e6},
    "result_present": {"score": None},
    "target_present": {"call_id": None},
}
ROLLUPS: dict[str, dict[str, Any]] = {
    **{f"{name}_present": {name: None} for name in ("dims", "series", "second", "calls")},
    **{f"{name}_present": {name: None} for name in ("source_partition", "source_from", "source_to")},
    **{f"{name}_in_range": {name: -1} for name in ("calls", "input_tokens", "output_tokens", "cost_nanousd")},
    **{
        f"{name}_within_calls": {name: 2}
        for name in ("errors", "blocked", "refused", "truncated", "unpriced", "retrievals")
    },
    "empty_retrievals_within_retrievals": {"empty_retrievals": 1},
    "source_from_within_source_to": {"source_to": 0},
    "second_not_ahead": {"second": int(AT.timestamp()) + 86_401},
}
ROLLUPS["calls_in_range"] |= dict.fromkeys(
    ("errors", "blocked", "refused", "truncated", "unpriced", "retrievals", "empty_retrievals")
)
CASES = {
    "set_name_present": {"set_name": None},
    "version_present": {"version": None},
    "case_id_present": {"case_id": None},
    "input_text_present": {"input_text": None},
    "version_in_range": {"version": 0, "set_name": "zero"},
    "added_before": {"added_in": 3},
}
IN_NO_VERSION = {"golden_cases.set_name_present", "golden_cases.version_present"}
"""Such a case belongs to no version, so that the suite's rows, those of newest versions, leave it out: it fails
``versions_exist``."""
MEASURED = {f"{suite.name}.{check.name}" for suite in SUITES for check in suite.measured}
ROWS = {
    f"{suite}.{name}": FIRST + number
    for suite, breaks in (
        ("calls", CALLS),
        ("feedback", FEEDBACK),
        ("evals", EVALS),
        ("rollups", ROLLUPS),
        ("golden_cases", CASES),
    )
    for number, name in enumerate(breaks)
}


def broken(config):
    """Break every expectation: each of the rows' by a row of its own."""
    calls = [made.call(FIRST + n, AT, **changes) for n, changes in enumerate(CALLS.values())]
    bad = {"cost_usd": None, "cost_status": "unpriced", "output_text": None, "_flags": ["clock_skew"]}
    loud = [made.call(2000 + n, AT, **bad) for n in range(400)]
    loud.append({**loud[-1], "id": made.uid(9999)})  # at the position of another
    words = [made.feedback(FIRST + n, AT, **changes) for n, changes in enumerate(FEEDBACK.values())]
    lost = [made.feedback(2000 + n, AT, call_id=made.uid(77, 7)) for n in range(60)]
    evals = [made.evaluation(FIRST + n, AT, **changes) for n, changes in enumerate(EVALS.values())]
    lost_evals = [made.evaluation(2000 + n, AT, call_id=made.uid(77, 7), error="x") for n in range(60)]
    rollups = [made.rollup(FIRST + n, AT, **changes) for n, changes in enumerate(ROLLUPS.values())]
    cases = [made.case(FIRST + n, **{"version": 2, **changes}) for n, changes in enumerate(CASES.values())]
    made.land(
        config,
        AT,
        raw_calls=[*calls, *loud],
        raw_feedback=[*words, *lost, lost[-1]],
        raw_evals=[*evals, *lost_evals, lost_evals[-1]],
        rollups=[*rollups, *[made.rollup(3000, AT, calls=7, series='{"app":"x"}')] * 2],
        golden_cases=[*cases, *[made.case(99, version=2)] * 2],
        golden_versions=[made.version(2, 50), made.version(0, 1, set_name="zero")],
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    config = LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data"))
    made.history(config)
    made.well(config)
    return config


@pytest.fixture(scope="module")
def well(config, tmp_path_factory):
    return data_quality(config, made.WELL_HOUR, site=tmp_path_factory.mktemp("docs") / "well")


@pytest.fixture(scope="module")
def hour(well, config, tmp_path_factory):
    """After ``well``: golden sets have no hours."""
    broken(config)
    return data_quality(config, made.BROKEN_HOUR, site=tmp_path_factory.mktemp("docs") / "broken")


def test_every_expectation_is_judged_and_holds_where_all_is_well(well):
    assert {each.key: (each.state, each.detail) for each in well.outcomes if each.state != "passed"} == {}
    assert len(well.outcomes) == sum(len(suite.rows) + len(suite.measured) for suite in SUITES)
    assert (well.ok, well.problems) == (True, ())


def test_every_expectation_fails_where_it_is_broken(hour):
    assert hour.problems == ()
    assert {each.key for each in hour.outcomes if each.state != "failed"} == IN_NO_VERSION


def test_every_expectation_of_rows_has_a_row_that_breaks_it():
    assert set(ROWS) == {f"{suite.name}.{check.name}" for suite in SUITES for check in suite.rows}


def test_the_sql_of_what_failed_returns_the_rows_that_broke_it_and_their_number(hour, config):
    with ReadOnlyLake.open(config) as lake:
        for each in hour.outcomes:
            if each.key in MEASURED or each.state != "failed":
                continue
            rows = lake.query(each.sql).to_pylist()
            assert {row["observed"] for row in rows} == {each.failing} == {each.observed}, each.key
            numbers = {row.get("_offset") for row in rows} | {row.get("case_id") for row in rows}
            numbers |= {int(str(row["id"])[-8:]) for row in rows if row.get("id")}
            assert numbers & {ROWS[each.key], f"c{ROWS[each.key]}", None}, each.key


def test_the_sql_of_measures_returns_what_the_alert_says(hour, config):
    with ReadOnlyLake.open(config) as lake:
        for each in (each for each in hour.outcomes if each.key in MEASURED):
            rows = lake.query(each.sql).to_pylist()
            assert float(rows[0]["observed"]) == each.observed > 0, each.key


def test_shares_and_volume_name_the_app_that_fails(hour):
    scopes = {each.key: each.scopes for each in hour.outcomes}
    assert scopes["calls.volume_low"] == scopes["feedback.volume_low"] == ("quiet",)
    assert scopes["calls.volume_high"] == scopes["calls.unpriced_share"] == ("bot",)


def test_what_is_skipped_is_not_judged_and_a_limit_can_be_raised():
    settings = DataQualitySettings(
        skip=("feedback", "calls.volume_low", "calls.fresch"),
        limits={"calls.unpriced_share": 0.5, "calls.volume_high": 2.0},
    )
    suites = {suite.name: suite for suite in chosen_suites(SUITES, settings)}
    checks = {check.name: check for check in suites["calls"].measured}
    assert set(suites) == {"calls", "evals", "rollups", "golden_cases"}
    assert "volume_low" not in checks
    assert checks["unpriced_share"].kwargs["max_value"] == 0.5
    assert "max_value" not in checks["volume_high"].kwargs
    assert unknown_names(SUITES, settings) == [
        "data_quality.skip names 'calls.fresch': no suite or expectation",
        "data_quality.limits names 'calls.volume_high': no expectation with an upper limit",
    ]
