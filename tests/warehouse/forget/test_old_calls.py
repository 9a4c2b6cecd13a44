"""Calls of an app go after as many days as it is kept, with what hangs on them; every other row stays as it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jobs.maintain import MaintainSettings, maintain
from schemas.errors import SettingsError
from tailrace import job_wiring
from tailrace.cli import retention
from tailrace.settings.model import MaintainSettings as Section
from tailrace.settings.model import Settings
from tests.jobs.data_quality.lake import WELL, micros
from tests.jobs.golden.lake import Here
from tests.warehouse.forget.old_lake import GOES, GONE_OFFSETS, KEPT, TABLES_WITH_ROWS, TODAY, filled
from warehouse.forget import drop_old_calls, old_apps
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.upkeep import Pace
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("old") / "home"
    config = LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))
    with Lake.open(config, now=lambda: micros(WELL)) as lake:
        filled(lake)
    assert verify(config).ok, verify(config).problems
    return home


@pytest.fixture
def config(made, tmp_path):
    shutil.copytree(made, tmp_path / "home")
    return LakeConfig(str(tmp_path / "home" / "catalog.sqlite"), str(tmp_path / "home" / "data"))


def opened(config):
    return Lake.open(config, now=lambda: micros(WELL), lander=False)


def rows(lake):
    return {name: lake.query(f"SELECT * FROM {name} ORDER BY ALL").to_pylist() for name in TABLES_WITH_ROWS}


def drop(lake):
    return drop_old_calls(Pace(lake, rest=0.0, size=2), KEPT, today=TODAY, at=WELL)


def stays(name, row):
    if name == "embeddings":
        return row["_offset"] == 0
    return row["_offset"] not in GONE_OFFSETS


def test_exactly_the_old_rows_of_each_app_go_as_the_dry_run_counted(config):
    planned = {one.app: one.rows for one in old_apps(config, KEPT, {}, today=TODAY)}
    assert planned == GOES
    with opened(config) as lake:
        before = rows(lake)
        assert drop(lake) == GOES
        after = rows(lake)
        for name in TABLES_WITH_ROWS:
            assert after[name] == [row for row in before[name] if stays(name, row)], name
            assert after[name], name
        assert lake.query("SELECT count(*) AS n FROM late_duplicates")["n"][0].as_py() == 0
        deletes = "SELECT count(*) AS n FROM __ducklake_metadata_lake.ducklake_delete_file WHERE end_snapshot IS NULL"
        assert lake.query(deletes)["n"][0].as_py() == 0, "every file was written again"
        assert drop(lake) == {"bot": {}, "*": {}}
    report = verify(config)
    assert report.ok, report.problems
    events = next(p for p in report.partitions if p.topic == "llm.events")
    assert (events.retired, events.landed + events.dead) == (len(GONE_OFFSETS), 22 - len(GONE_OFFSETS))
    assert {one.app: one.rows for one in old_apps(config, KEPT, {}, today=TODAY)} == {"bot": {}, "*": {}}


def test_apps_that_are_kept_equally_long_go_together(config):
    with opened(config) as lake:
        apps = {"bot": 15, "gateway": 15, "it's": 25}
        done = drop_old_calls(Pace(lake, rest=0.0), apps, today=TODAY, at=WELL)
        left = lake.query("SELECT app, count(*) AS n FROM raw_calls GROUP BY 1 ORDER BY 1").to_pylist()
    assert {apps: rows["raw_calls"] for apps, rows in done.items()} == {"bot, gateway": 5, "it's": 1}
    assert left == [{"app": "bot", "n": 2}, {"app": "gateway", "n": 2}, {"app": "it's", "n": 3}]
    assert verify(config).ok, verify(config).problems


def test_what_the_retention_of_a_table_takes_is_not_counted_twice(config):
    days = {"raw_calls": 27, "dead": 18}
    counted = {one.app: one.rows for one in old_apps(config, KEPT, days, today=TODAY)}
    settings = MaintainSettings(retention_days=days, app_retention_days=KEPT, rest=0.0)
    report = maintain(config, now=lambda: micros(WELL), settings=settings)
    assert report.rows_dropped == {"raw_calls": 3, "dead": 2}
    assert report.app_rows_dropped == counted
    assert counted["bot"]["raw_calls"] == 1
    assert verify(config).ok, verify(config).problems


def test_without_the_lock_of_upkeep_or_between_two_full_runs_nothing_goes(config):
    settings = MaintainSettings(retention_days={}, app_retention_days=KEPT, rest=0.0, clean=False)
    assert maintain(config, now=lambda: micros(WELL), settings=settings).app_rows_dropped == {}


WORKER = """
import sys
from tests.warehouse.forget.test_old_calls import drop, opened
from warehouse.storage.connect import LakeConfig
with opened(LakeConfig(sys.argv[1], sys.argv[2])) as lake:
    drop(lake)
"""


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    "fault", [pytest.param("before_commit:kill:3", marks=pytest.mark.faults), "after_delete:kill:4"]
)
def test_killed_at_a_step_the_next_run_ends_where_one_would_have(config, fault):
    program = [sys.executable, "-c", WORKER, config.catalog, config.data_path]
    env = {**os.environ, "TAILRACE_FAULT": f"forget.{fault}"}
    assert subprocess.run(program, cwd=REPO, env=env, timeout=60, check=False).returncode == -signal.SIGKILL
    assert verify(config).ok, verify(config).problems
    with opened(config) as lake:
        drop(lake)
        assert all(stays(name, row) for name, found in rows(lake).items() for row in found)
    report = verify(config)
    assert report.ok, report.problems
    assert next(p for p in report.partitions if p.topic == "llm.events").retired == len(GONE_OFFSETS)


def test_the_settings_bound_an_app_by_its_calls(tmp_path):
    def settings(apps, **days):
        return Settings(home=tmp_path, maintain=Section(app_retention_days=apps, retention_days=days))

    assert job_wiring.maintain(settings({"a=b": 400, "*": 1})).app_retention_days == {"a=b": 400, "*": 1}
    tried = job_wiring.with_retention(settings({"bot": 9}), (), ["a=b=30"])
    assert job_wiring.maintain(tried).app_retention_days == {"bot": 9, "a=b": 30}
    for apps, days, says in (
        ({"bot": 0}, {}, "at least 1 day"),
        ({"": 3}, {}, "app ''"),
        ({"bot": 31}, {"raw_calls": 30}, "at most 30"),
    ):
        with pytest.raises(SettingsError, match=says):
            job_wiring.maintain(settings(apps, **days))
    with pytest.raises(SettingsError, match="APP=DAYS"):
        job_wiring.with_retention(settings({}), (), ["bot"])


def test_the_command_shows_each_app_and_changes_nothing(config):
    app = typer.Typer()
    retention.add_to(app)
    app.callback()(lambda: None)
    age = (datetime.now(UTC).date() - TODAY) // timedelta(days=1)
    words = ("retention", "--keep-app", f"bot={15 + age}", "--keep-app", f"it's={9999}")
    done = CliRunner().invoke(app, words, obj=Here(config))
    assert done.exit_code == 0, done.output
    assert f"raw_calls        app bot, kept {15 + age} days: 3 rows before" in done.stdout
    assert "app it's, kept 9999 days: nothing would go" in done.stdout
    with opened(config) as lake:
        assert lake.query("SELECT count(*) AS n FROM raw_calls")["n"][0].as_py() == 13
