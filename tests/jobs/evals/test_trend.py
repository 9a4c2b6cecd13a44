"""Means over time: the runs over as many days, and a line that ends where the version of a scorer does."""

from __future__ import annotations

from datetime import date, timedelta

from jobs.evals import charts
from jobs.evals.summary import Period, summarise
from jobs.evals.trend import Week, trend_of
from tests.jobs.evals.lake import DAYS, LakeOutlet, call, land_calls, run
from tests.jobs.evals.test_summary import rows
from warehouse.evals.scores import trend
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig


def row(since: date, days: int = 7, **changes: object) -> dict[str, object]:
    until = since + timedelta(days=days - 1)
    named = {"since": since.isoformat(), "until": until.isoformat(), "name": "answered", "version": "v1"}
    return {**named, "mean": 0.9, "n": 100, **changes}


def test_runs_over_as_many_days_up_to_the_report_are_its_points() -> None:
    summary = summarise(rows(0.9), None, period=Period(*DAYS, "r"))
    week = timedelta(days=7)
    made = [
        row(DAYS[0] - week),
        row(DAYS[0]),
        row(DAYS[0] + week),  # after the report
        row(DAYS[0] - timedelta(days=1), days=1),  # of another length
        row(DAYS[0], version="v0", n=40),  # of fewer calls than the first of its run
        row(DAYS[0], name="other"),
        row(DAYS[0] - 2 * week, n=3),
    ]
    assert [(each.since, each.version) for each in trend_of(made, summary, 12)] == [
        (DAYS[0] - week, "v1"),
        (DAYS[0], "v1"),
    ]
    assert [each.since for each in trend_of(made, summary, 1)] == [DAYS[0]]


def test_a_line_ends_where_the_version_does() -> None:
    weeks = [Week(DAYS[0] + timedelta(days=7 * i), "judge.safe", "v1" if i < 2 else "v2", 0.9, 100) for i in range(4)]
    assert "another version of the scorer" in charts.trend_svg(weeks)
    assert "another version of the scorer" not in charts.trend_svg(weeks[:2])
    assert charts.trend_svg(weeks[:1]) == ""


def test_the_lake_gives_the_weighted_mean_of_each_run(config: LakeConfig, outlet: LakeOutlet) -> None:
    made = [call(i, finish_reason="length" if i % 4 == 0 else "stop") for i in range(40)]
    land_calls(config, [*made, *(call(i, variant="shadow", finish_reason="length") for i in range(40, 60))])
    report = run(config, outlet)
    outlet.land()
    with ReadOnlyLake.open(config) as lake:
        (found,) = [each for each in trend(lake, report.run_id) if each["name"] == "complete"]
    assert (found["since"], found["until"], found["n"]) == (str(DAYS[0]), str(DAYS[1]), 40)
    assert found["mean"] == 0.75
