"""The command and the job of budgets: what a person sees, and what reaches llm.alerts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from pipelines.kafka import Source
from schemas.alerts import Alert
from schemas.errors import SettingsError
from schemas.topics import ALERTS
from tailrace import wiring
from tailrace.batch_jobs import on_timetable
from tailrace.cli import budgets as command
from tailrace.home.layout import Home
from tailrace.job_runs import budgets as shell
from tailrace.settings.model import KafkaSettings, Settings
from tests.jobs.data_quality import lake as made
from warehouse.storage.connect import LakeConfig

NOW = datetime(2026, 11, 18, 12, tzinfo=UTC)
BUDGETS = [
    {"name": "bot, today", "usd": 10, "app": "bot", "period": "day"},
    {"name": "\x1b[31mred", "usd": 1_000_000, "period": "month"},
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    config = LakeConfig(str(Home(home).catalog), str(Home(home).data_path))
    made.land(config, NOW, raw_calls=[made.call(n, NOW - timedelta(minutes=5), cost_usd=1) for n in range(9)])
    return home


@pytest.fixture
def here(home, broker, prefix, monkeypatch):
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=1)
    settings = Settings(home=home, kafka=kafka, budgets=BUDGETS)
    monkeypatch.setattr(shell, "now_us", lambda: made.micros(NOW))
    return SimpleNamespace(settings=settings, bootstrap_servers=broker.bootstrap, home=Home(home))


def test_the_job_publishes_its_alerts(here):
    wiring.make_topics(here.settings, here.bootstrap_servers)
    report = shell.judge(here)
    assert (report.ok, report.budgets, len(report.alerts)) == (True, 2, 1)
    assert "90% spent, 9.00 USD of 10.00 USD" in report.text()
    assert json.loads(report.to_json())["alerts"][0]["state"] == "firing"
    source = Source(wiring.kafka(here.settings), [ALERTS], batch_wait_s=0.2)
    source.assign({(ALERTS, 0): 0})
    values = []
    while not values:
        values = [value for batch in source.poll() for value in batch.values]
    source.close()
    assert Alert.from_json(values[0]) == report.alerts[0]


def test_the_command_shows_every_budget_and_runs_no_escape_sequence(here, capsys):
    command._budgets(SimpleNamespace(obj=here))
    shown = capsys.readouterr().out
    assert "90%: 9.00 USD of 10.00 USD" in shown
    assert "no forecast yet" in shown
    assert "\x1b[31m" not in shown
    command._budgets(SimpleNamespace(obj=here), as_json=True)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["spent_usd"], first["share"], first["period"]) == ("9.000000000", 0.9, "day")
    assert second["forecast"] is None


def test_without_a_budget_it_says_how_to_set_one(home, capsys):
    command._budgets(SimpleNamespace(obj=SimpleNamespace(settings=Settings(home=home))))
    assert "[[budgets]]" in capsys.readouterr().out


def test_a_wrong_budget_is_refused_by_the_settings(home):
    with pytest.raises(SettingsError, match=r"budgets\[1\]\.period"):
        shell.configured(SimpleNamespace(settings=Settings(home=home, budgets=[{"usd": 1, "period": "year"}])))


def test_the_job_is_on_the_timetable_only_where_there_are_budgets(home):
    names = [{job.name for job in on_timetable(Settings(home=home, budgets=budgets))} for budgets in ([], BUDGETS)]
    assert names[1] - names[0] == {"budgets"}
