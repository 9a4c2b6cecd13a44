"""A real Prometheus and a real Alertmanager on the shipped files: every rule is evaluated, every panel has data."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from msgspec.structs import replace

from pipelines.clock import now_us
from pipelines.notify.channels import Message, build
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import Guard
from pipelines.notify.spec import parse_channels
from tests.contract.test_channels import ALERT
from tests.monitoring import prometheus as real
from tests.monitoring.home import Living

DASHBOARDS = sorted((real.DEPLOY / "grafana" / "dashboards").glob("*.json"))
PROGRAMS = ("prometheus", "promtool", "prometheus-alertmanager", "amtool")
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason="Prometheus or Alertmanager is absent (make setup-system)"
)


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alertmanager")
    file = real.DEPLOY / "alertmanager" / "alertmanager.yml"
    checked = subprocess.run(["amtool", "check-config", file], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    port = real.free_port()
    words = [f"--config.file={file}", f"--storage.path={folder}", "--cluster.listen-address="]
    command = ["prometheus-alertmanager", *words, f"--web.listen-address=127.0.0.1:{port}"]
    with real.started(command, folder / "log"):
        real.until(lambda: real.ready(f"http://127.0.0.1:{port}/-/ready"), "Alertmanager is ready")
        yield port


@pytest.fixture(scope="module")
def living(tmp_path_factory):
    return Living(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def prometheus(living, alertmanager, tmp_path_factory):
    with (
        real.page(living.page) as port,
        real.running(tmp_path_factory.mktemp("prometheus"), port, alertmanager) as running,
    ):
        # what a window holds at its end: rates need two scrapes, rules a third
        real.until(
            lambda: running.query("count_over_time(tailrace:budget_spent:ratio30d[5m]) > 2"), "rules are recorded"
        )
        yield running


def panels():
    for file in DASHBOARDS:
        model = json.loads(file.read_text())
        for panel in model["panels"]:
            for target in panel["targets"]:
                yield pytest.param(target["expr"], id=f"{model['uid']}: {panel['title']} {target['refId']}")


@pytest.mark.parametrize("query", list(panels()))
def test_every_query_of_every_panel_has_data(prometheus, query):
    found = real.until(lambda: prometheus.query(query.replace("$app", ".*")), f"data of {query}")
    assert all(re.fullmatch(r"-?[0-9.e+-]+", each["value"][1]) for each in found)


def test_every_rule_is_evaluated_without_an_error(prometheus):
    rules = prometheus.rules()
    assert len(rules) == 25
    assert {rule["name"]: rule.get("lastError", "") for rule in rules if rule["health"] != "ok"} == {}
    recorded = {rule["name"] for rule in rules if rule["type"] == "recording"}
    for name in recorded:
        real.until(lambda name=name: prometheus.query(name), f"data of {name}")


def test_an_alert_of_prometheus_reaches_alertmanager(prometheus, alertmanager):
    """Search has spent its budget many times over."""
    real.until(lambda: "TailraceBudgetSpent" in prometheus.alerts(), "the alert fires")
    url = f"http://127.0.0.1:{alertmanager}/api/v2/alerts"
    found = real.until(
        lambda: [a for a in real.get(url) if a["labels"]["alertname"] == "TailraceBudgetSpent"], "it is sent"
    )
    assert found[0]["labels"]["app"] == "search"
    assert found[0]["labels"]["severity"] == "critical"


def channel(kind, port):
    (spec,) = parse_channels([{"name": "it", "kind": kind, "url": f"http://127.0.0.1:{port}"}])
    return build(spec, Poster(Guard.allowing(["127.0.0.1"])))


def of_tailrace(port, rule):
    return [a for a in real.get(f"http://127.0.0.1:{port}/api/v2/alerts") if a["labels"]["alertname"] == rule]


def test_an_alert_of_tailrace_opens_grows_and_ends_in_alertmanager(alertmanager):
    """Severity changes on the way, names are hostile, and every state is sent twice."""
    now, series = now_us(), {"app": 'shop"\n<!channel>', "9 odd-name": "x", "severity": "mine"}
    first = replace(ALERT, rule="cost_spike", series=series, state="firing", severity="warning")
    states = [first, replace(first, state="update", severity="critical")]
    for number, alert in enumerate(states):
        for _ in range(2):
            sent = channel("alertmanager", alertmanager).send(Message(alert, alert.to_json(), now + number))
            assert sent.kind == "delivered", sent
        (found,) = of_tailrace(alertmanager, "cost_spike")
        assert found["labels"]["severity"] == alert.severity
        assert found["labels"]["series_severity"] == "mine"
        assert found["labels"]["_9_odd_name"] == "x"
        assert "<!channel>" not in json.dumps(found)
        assert found["annotations"]["alert_id"] == alert.id
        assert found["status"]["state"] in ("active", "unprocessed")
    over = replace(states[-1], state="resolved", severity="critical")
    channel("alertmanager", alertmanager).send(Message(over, over.to_json(), now + 2))
    real.until(lambda: not of_tailrace(alertmanager, "cost_spike"), "it is over")


def test_the_webhook_has_the_fields_of_alertmanagers_own(alertmanager, tmp_path):
    """A real Alertmanager sends its webhook to a page of ours: the same fields, of the same kinds."""
    got = []
    with real.page(lambda: b"", got.append) as port:
        config = {
            "route": {"receiver": "it", "group_wait": "0s"},
            "receivers": [{"name": "it", "webhook_configs": [{"url": f"http://127.0.0.1:{port}/"}]}],
        }
        (tmp_path / "am.yml").write_text(json.dumps(config))
        free = real.free_port()
        words = [f"--config.file={tmp_path / 'am.yml'}", f"--storage.path={tmp_path}", "--cluster.listen-address="]
        with real.started(
            ["prometheus-alertmanager", *words, f"--web.listen-address=127.0.0.1:{free}"], tmp_path / "log"
        ):
            real.until(lambda: real.ready(f"http://127.0.0.1:{free}/-/ready"), "Alertmanager is ready")
            alert = replace(ALERT, state="firing")
            assert channel("alertmanager", free).send(Message(alert, alert.to_json(), now_us())).kind == "delivered"
            real.until(lambda: got, "Alertmanager calls its webhook")
        assert channel("alertmanager_webhook", port).send(Message(alert, alert.to_json(), now_us())).kind == "delivered"
    theirs, ours = (json.loads(body) for body in (got[0], got[-1]))
    theirs_alert, ours_alert = next(a for a in theirs["alerts"] if a["status"] == "firing"), ours["alerts"][0]
    assert {name: type(value) for name, value in ours.items()} == {name: type(value) for name, value in theirs.items()}
    assert set(ours_alert) | {"generatorURL"} == set(theirs_alert) | {"generatorURL"}
    assert (ours["version"], ours["status"], ours_alert["endsAt"]) == ("4", "firing", theirs_alert["endsAt"])
    assert ours_alert["labels"] == theirs_alert["labels"]


def test_all_numbers_agree_with_what_landed(prometheus, living):
    """One scrape holds sums that agree with each other, whenever it was made."""

    def one(promql):  # on a busy machine a scrape fails now and then, and there is no value until the next one
        return real.until(lambda: prometheus.query(promql), promql)

    calls = {each["metric"]["app"]: float(each["value"][1]) for each in one("sum by (app) (tailrace_calls_total)")}
    assert set(calls) == {"support", "search"}
    ends = "sum(tailrace_call_ends_total) - sum(tailrace_calls_total)"
    assert one(ends)[0]["value"][1] == "0"
    durations = "sum(tailrace_call_duration_seconds_count) - sum(tailrace_calls_total)"
    assert one(durations)[0]["value"][1] == "0"


def test_the_dashboards_are_what_their_script_writes(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", "import dashboards, json, sys; print(json.dumps(dashboards.DASHBOARDS))"],
        cwd=real.DEPLOY.parent / "scripts",
        capture_output=True,
        text=True,
        check=True,
    )
    written = {file.name: json.loads(file.read_text()) for file in DASHBOARDS}
    assert json.loads(done.stdout) == written
