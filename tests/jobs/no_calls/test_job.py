"""Silent apps over a real lake: alerts once, resolved once, with SQL that returns their number."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from jobs.no_calls import Settings, no_calls
from schemas.alerts import Alert
from tests.jobs.data_quality import lake as made
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
HOSTILE = "o'brien\x1b[31m"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Six days of two apps with a call a minute in the rollups; one of them goes on in the calls of the last day."""
    folder = tmp_path_factory.mktemp("lake")
    config = LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data"))
    start = NOW - timedelta(days=6)
    rollups, calls = [], []
    for n in range(6 * 1440):
        at = start + timedelta(minutes=n)
        for app in ("steady", HOSTILE):
            series = json.dumps({"app": app})
            rollups.append(made.rollup(len(rollups), at, series=series, key=app))
            silent = app == HOSTILE and at >= NOW - timedelta(hours=1)
            if at >= NOW - timedelta(days=2) and not silent:
                calls.append(made.call(len(calls), at, app=app))
    made.land(config, NOW, raw_calls=calls, rollups=rollups)
    return config


def judge(config, until, settings=None):
    with ReadOnlyLake.open(config) as lake:
        return no_calls(lake, until, settings or Settings())


def test_an_app_that_stopped_is_told_once_and_is_over_when_it_calls_again(config):
    report = judge(config, NOW)
    assert (report.apps, report.silent) == (2, (HOSTILE,))
    (alert,) = report.alerts
    assert (alert.state, alert.seq, alert.detector, alert.rule) == ("firing", 0, "silence", "no_calls")
    assert alert.window.start == "2026-11-18T11:00:00.000Z"
    assert 55 < alert.expected < 65
    assert Alert.from_json(alert.to_json()) == alert
    with ReadOnlyLake.open(config) as lake:
        (row,) = lake.query(alert.evidence.sql).to_pylist()
    assert row["observed"] == alert.observed == 0
    assert judge(config, NOW).alerts == report.alerts
    made.land_alerts(config, NOW, [alert], 0)
    assert judge(config, NOW + timedelta(minutes=5)).alerts == ()
    again = NOW + timedelta(minutes=6)
    made.land(config, again, raw_calls=[made.call(10**6, again, app=HOSTILE)])
    (over,) = judge(config, again + timedelta(minutes=2)).alerts
    assert (over.id, over.state, over.seq) == (alert.id, "resolved", 1)
    made.land_alerts(config, NOW, [over], 5)
    assert judge(config, again + timedelta(minutes=2)).alerts == ()


def test_an_app_that_is_ignored_is_left_alone(config):
    assert judge(config, NOW, Settings(ignore=(HOSTILE,))).silent == ()


def test_a_lake_without_calls_has_no_silent_app(tmp_path):
    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    made.land(config, NOW, feedback=[])
    report = judge(config, NOW)
    assert (report.apps, report.alerts, report.ok) == (0, (), True)
