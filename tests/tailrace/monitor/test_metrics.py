"""The page of metrics, as Prometheus reads it."""

import os
import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.clock import now_us
from schemas.stage_facts import StageFacts
from tailrace.home.layout import Heartbeat, Home
from tailrace.monitor.metrics import StageCollector, exposition
from tailrace.settings.model import Settings

USAGE = {
    "calls": [
        ["support", "gpt-4o", "12", "2", "0.300000001", "90", "11"],
        ['quote " back \\ slash', "", "1", "1", None, None, None],
    ],
    "alerts": [["spike", "warning", "firing", 2], ["spike", "warning", "resolved", 1]],
}


@pytest.fixture
def settings(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("TAILRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path))
    return Settings()


def page(settings):
    return exposition(StageCollector(settings)).decode()


def samples(settings):
    families = text_string_to_metric_families(page(settings))
    return {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}


def land(home, **facts):
    beat = Heartbeat(Home(home), "land", now_us)
    beat(StageFacts.of({"progress": 1, "commits": 3, "dead_ratio": 0.25, **facts}))
    beat.write("running")


def test_calls_cost_tokens_and_alerts_are_counters(settings, tmp_path):
    land(tmp_path, usage=USAGE)
    found = samples(settings)
    labels = (("app", "support"), ("model", "gpt-4o"))
    assert found["tailrace_calls_total", *labels] == 12
    assert found["tailrace_calls_unpriced_total", *labels] == 2
    assert found["tailrace_cost_usd_total", *labels] == pytest.approx(0.300000001)
    assert found["tailrace_tokens_total", ("app", "support"), ("direction", "input"), ("model", "gpt-4o")] == 90
    firing = (("detector", "spike"), ("severity", "warning"), ("state", "firing"))
    assert found["tailrace_alerts_total", *firing] == 2


def test_what_is_unknown_is_absent(settings, tmp_path):
    land(tmp_path, usage=USAGE)
    odd = {name for name, *labels in samples(settings) if ("app", 'quote " back \\ slash') in labels}
    assert odd == {"tailrace_calls_total", "tailrace_calls_unpriced_total"}


def test_without_a_land_there_is_a_page_all_the_same(settings):
    assert not any(name.startswith("tailrace_calls") for name, *_ in samples(settings))
    assert "# TYPE tailrace_calls_total counter" in page(settings)


def test_counters_go_on_after_a_restart_of_land(settings, tmp_path):
    land(tmp_path, usage=USAGE)
    Heartbeat(Home(tmp_path), "land", now_us).write("starting")
    assert samples(settings)["tailrace_calls_total", ("app", "support"), ("model", "gpt-4o")] == 12


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed (make setup-system)")
def test_promtool_finds_nothing_to_complain_of(settings, tmp_path):
    land(tmp_path, usage=USAGE, position={"0": 7})
    checked = subprocess.run(["promtool", "check", "metrics"], input=page(settings), text=True, capture_output=True)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
