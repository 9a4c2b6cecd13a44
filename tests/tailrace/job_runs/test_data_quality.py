"""The command and the job: exit codes, files of users, pages in the home, no network, nothing else gets slower."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace

import msgspec
import pyarrow as pa
import pytest

from jobs.data_quality import DataQualityReport, Window
from jobs.data_quality.alerts import DETECTOR, data_quality_alerts
from jobs.landed_alerts import open_alerts
from pipelines.kafka import Source
from pipelines.land.rows import land_rows
from schemas.alerts import LogRecord
from schemas.records import Records
from schemas.topics import ALERTS, LOG
from tailrace import wiring
from tailrace.cli import data_quality as commands
from tailrace.home.layout import Home
from tailrace.job_runs.data_quality import publish_results, records
from tailrace.settings.model import KafkaSettings, Settings
from tests.jobs.data_quality import lake as made
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

HOSTILE = "<script>alert(1)</script>"
GUARD = """
import socket, sys
def refuse(*args, **kwargs):
    raise SystemExit(f"network: {args[1:]}")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from tailrace.__main__ import main
main()
"""
AT = made.WELL + timedelta(minutes=30)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A lake with one hour, in which a call has no cost and one comes from an odd app; and three files of the user."""
    home = tmp_path_factory.mktemp("home")
    config = LakeConfig(str(Home(home).catalog), str(Home(home).data_path))
    calls = [
        made.call(n, AT, app=HOSTILE if n == 3 else "bot", ttft_ms=None, latency_ms=-1.0 if n == 5 else 9.0)
        for n in range(20)
    ]
    made.land(config, AT, raw_calls=calls)
    folder = home / "expectations"
    folder.mkdir()
    known = {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "app", "value_set": ["bot"]}}
    mean = {"type": "expect_column_mean_to_be_between", "kwargs": {"column": "latency_ms", "min_value": 100}}
    suite = {"name": "mine", "meta": {"table": "calls"}, "expectations": [known, mean]}
    (folder / "mine.json").write_text(json.dumps(suite))
    (folder / "broken.json").write_text("{")
    wrong = [{"type": "expect_nothing_of_anyone", "kwargs": {}}]
    (folder / "wrong.json").write_text(json.dumps({"meta": {"table": "calls"}, "expectations": wrong}))
    write = {"meta": {"sql": "COPY (SELECT 1) TO '/tmp/x'"}, "expectations": [known]}
    (folder / "writes.json").write_text(json.dumps(write))
    return home


@pytest.fixture(scope="module")
def ran(home):
    """The command in a process that refuses every connection."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
    words = ["data-quality", "run", "--hour", made.WELL.isoformat(), "--json", "--home", str(home)]
    command = [sys.executable, "-c", GUARD, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, cwd=home, check=False)


@pytest.fixture(scope="module")
def report(ran):
    assert ran.stdout.startswith("{"), ran.stderr
    return json.loads(ran.stdout)


def test_it_judges_without_kafka_and_without_any_connection(ran, report):
    assert ran.returncode == 1
    assert "network" not in ran.stderr
    failed = {f"{each['suite']}.{each['check']}" for each in report["outcomes"] if each["state"] == "failed"}
    assert failed == {
        "calls.latency_ms_in_range",
        "mine.column_values_to_be_in_set.app",
        "mine.column_mean_to_be_between.latency_ms",
    }


def test_a_file_of_the_user_that_is_wrong_is_named_and_the_others_are_judged(report, home):
    problems = " ".join(report["problems"])
    assert report["ok"] is False
    assert f"{home / 'expectations' / 'broken.json'}: " in problems
    assert "wrong.nothing_of_anyone: " in problems
    assert f"{home / 'expectations' / 'writes.json'}: " in problems
    assert len(report["problems"]) == 3


def test_the_sql_of_a_users_expectation_finds_its_rows(report, home):
    (mine,) = [each for each in report["outcomes"] if each["check"] == "column_values_to_be_in_set.app"]
    assert (mine["failing"], mine["observed"]) == (1, 1.0)
    assert "NOT IN ('bot')" in mine["sql"]


def test_the_pages_hold_no_value_of_an_event_and_run_nothing(report, home):
    site = home / "reports" / "data_quality"
    pages = [page.read_text() for page in site.rglob("*.html")]
    assert len(pages) > 15
    assert not any("<script" in page or "alert(1)" in page for page in pages)
    assert all("default-src 'none'" in page for page in pages)
    assert "calls.latency_ms_in_range" in (site / "index.html").read_text()
    assert sorted(path.name for path in (home / "reports").iterdir()) == ["data_quality"]
    assert site.stat().st_mode & 0o077 == 0


def landed(run, now):
    """The results as land would write them."""
    values = [msgspec.json.encode(LogRecord(table="data_quality", at=now, row=row)) for row in run]
    count = len(values)
    place = [0] * count, list(range(count)), [now] * count, [None] * count
    return land_rows(Records(LOG, *place, values, [()] * count, {0: (0, count)}), epoch=0, landed_at=now)


def test_results_land_in_the_view_once_and_are_shown(home, report, capsys):
    outcomes = [SimpleNamespace(**each, key=f"{each['suite']}.{each['check']}") for each in report["outcomes"]]
    run = SimpleNamespace(run_id=report["run_id"], since=report["since"], outcomes=outcomes)
    rows = [*records(run), next(records(run))]  # one was sent twice
    with Lake.open(LakeConfig(str(Home(home).catalog), str(Home(home).data_path)), now=lambda: made.micros(AT)) as lake:
        lake.insert(landed(rows, made.micros(AT)))
        view = lake.query("FROM data_quality")
    assert view.num_rows == len(outcomes)
    failed = [row for row in view.to_pylist() if row["state"] == "failed"]
    assert all(row["sql"] and row["hour"] == made.WELL for row in failed)
    context = SimpleNamespace(settings=Settings(home=home), home=Home(home))
    commands._show(SimpleNamespace(obj=context), failed=True)
    shown = capsys.readouterr().out
    assert "calls.latency_ms_in_range, found 1" in shown
    assert "calls.id_present" not in shown


def test_results_and_alerts_go_to_kafka_land_and_the_sql_of_each_returns_its_number(home, report, broker, prefix):
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=1)
    settings = Settings(home=home, kafka=kafka)
    wiring.make_topics(settings, broker.bootstrap)
    run = msgspec.convert(
        {key: value for key, value in report.items() if key not in ("ok", "alerts")}, DataQualityReport
    )
    alerts = data_quality_alerts(run.outcomes, (), made.WELL_HOUR, docs="x")
    assert len(alerts) == 3
    here = SimpleNamespace(settings=settings, bootstrap_servers=broker.bootstrap)
    publish_results(here, run, alerts, made.WELL_HOUR)
    source = Source(wiring.kafka(settings), [LOG, ALERTS], batch_wait_s=0.2)
    source.assign({(LOG, 0): 0, (ALERTS, 0): 0})
    tables, rows = [], 0
    while rows < len(run.outcomes) + len(alerts):
        for batch in source.poll():
            tables.append(land_rows(batch, epoch=0, landed_at=made.WELL_HOUR.now))
            rows += len(batch.values)
    source.close()
    with Lake.open(wiring.lake(settings), now=lambda: made.WELL_HOUR.now) as lake:
        for each in tables:
            lake.insert(each)
    with ReadOnlyLake.open(wiring.lake(settings)) as lake:
        found = open_alerts(lake, DETECTOR)
        assert {alert.id for alert in found} == {alert.id for alert in alerts}
        for alert in found:
            (row, *_) = lake.query(alert.evidence.sql).to_pylist()
            assert row["observed"] == alert.observed


def test_an_hour_of_a_million_rows_is_sampled_to_the_limit(tmp_path):
    from jobs.data_quality.batches import read_rows
    from jobs.data_quality.suites.calls import CALLS

    config = LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))
    made.land(config, AT, raw_calls=[made.call(n, AT) for n in range(3000)])
    with ReadOnlyLake.open(config) as lake:
        one, two = (read_rows(lake, CALLS, made.WELL_HOUR, max_rows=1000) for _ in range(2))
    assert one.rows == 3000
    assert 800 < one.table.num_rows <= 1000
    assert one.table.sort_by("_offset").equals(two.table.sort_by("_offset"))
    assert pa.types.is_floating(one.table.schema.field("cost_usd").type)


def test_the_window_of_the_job_is_the_last_whole_hour():
    at = made.micros(made.WELL + timedelta(hours=1, minutes=12))
    assert Window.before(at) == Window(made.micros(made.WELL), made.micros(made.WELL + timedelta(hours=1)), at)
    assert Window.at(made.micros(AT), at) == Window.before(at)
