"""A stage that ends again and again at one position: it is shown, sent without any stage, restarted, and recovers."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from fault_harness.process import wait_until

from pipelines.kafka import KafkaConfig, Producer
from schemas.alerts import Alert, Window, alert_id, fingerprint
from schemas.topics import ALERTS
from tailrace.broker import Broker
from tailrace.demo.receiver import Receiver, listening
from tailrace.home.layout import Home
from tailrace.monitor.status import status
from tailrace.monitor.watch import Watch
from tailrace.settings.model import KafkaSettings, Settings
from tailrace.supervisor import stage_alerts
from tailrace.supervisor.stages import STAGES
from tailrace.supervisor.supervisor import Supervisor
from tailrace.supervisor.up import running

pytestmark = pytest.mark.faults
NOTIFY = tuple(stage for stage in STAGES if stage.name == "notify")
AT = "2026-07-01T10:00:00Z"


@contextmanager
def supervised(supervisor: Supervisor) -> Iterator[None]:
    """The loop of ``up``."""
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            supervisor.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def spike() -> Alert:
    series = {"app": "shop"}
    return Alert(
        id=alert_id("spike_cost", series, 1),
        seq=0,
        fingerprint=fingerprint("spike_cost", series),
        detector="spike",
        rule="spike_cost",
        severity="critical",
        state="firing",
        series=series,
        window=Window(AT, AT),
        observed=2.0,
        expected=1.0,
        score=9.0,
        unit="usd",
        detected_at=AT,
    )


@pytest.mark.timeout(400)
def test_a_notify_that_dies_at_one_alert_is_failing_and_is_told_without_it(
    broker: Broker, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_alerts, "RECOVERED_AFTER_S", 1.0)
    with listening(Receiver()) as receiver:
        settings = Settings(
            home=tmp_path,
            kafka=KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=1),
            alert_channels=[{"name": "on-call", "url": receiver.url, "secret": receiver.secret}],
            webhook_allow_hosts=(receiver.url.split("/")[2],),
        )
        environment = {
            "TAILRACE_KAFKA__PREFIX": prefix,
            "TAILRACE_ALERT_CHANNELS": json.dumps(settings.alert_channels),
            "TAILRACE_WEBHOOK_ALLOW_HOSTS": receiver.url.split("/")[2],
            "TAILRACE_FAULT": "notify.before_post:kill",
        }

        def found() -> dict[str, object]:
            return dict(status(settings, stages=NOTIFY)["stages"]["notify"])

        with (
            running(settings, stages=NOTIFY, environment=environment) as (supervisor, _),
            Watch(settings, stages=NOTIFY, web=False).over(broker.bootstrap),
            supervised(supervisor),
        ):
            producer = Producer(KafkaConfig(broker.bootstrap, prefix))
            producer.send(ALERTS, spike().to_json(), key=b"spike")
            producer.flush(10)
            producer.close(1.0)
            wait_until(lambda: found()["state"] == "failing", 120, "failing", lambda: str(found()))
            assert not status(settings, stages=NOTIFY)["ready"]
            assert "at llm.alerts[0]@" in str(found()["error"])
            assert "SIGKILL" in str(found()["error"])
            wait_until(lambda: receiver.alerts, 30, "the supervisor sends the alert itself")
            restarts = supervisor.facts()["stages"]["notify"]["restarts"]
            wait_until(
                lambda: supervisor.facts()["stages"]["notify"]["restarts"] > restarts,
                60,
                "it is restarted all the same",
            )
            del supervisor._environment["TAILRACE_FAULT"]  # the cause of its failures is removed
            wait_until(lambda: len(receiver.alerts) == 3, 120, "the spike, and that it is well", lambda: str(found()))
            wait_until(lambda: status(settings, stages=NOTIFY)["ready"], 60, "ready")
        failing, *rest = receiver.alerts
        assert failing.title.startswith("stage notify is failing at llm.alerts[0]@")
        recovered = next(alert for alert in rest if alert.rule == failing.rule)
        assert (recovered.id, recovered.seq, recovered.state) == (failing.id, 1, "resolved")
        assert receiver.repeats == 0
    assert '"event": "stage_ended"' in Home(tmp_path).log_file("notify").read_text()


@pytest.mark.timeout(200)
def test_a_stage_that_makes_no_progress_leaves_in_its_log_where_it_stood(
    broker: Broker, prefix: str, tmp_path: Path
) -> None:
    stages = tuple(replace(stage, stall_after_s=6.0) for stage in STAGES if stage.name == "meter")
    settings = Settings(
        home=tmp_path, kafka=KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=1)
    )
    environment = {"TAILRACE_KAFKA__PREFIX": prefix, "TAILRACE_FAULT": "meter.before_produce:hang:5"}
    with running(settings, stages=stages, environment=environment) as (supervisor, _), supervised(supervisor):

        def ended() -> dict[str, object] | None:
            return status(settings, stages=stages)["stages"]["meter"]["last_exit"]

        last = wait_until(ended, 120, "it was killed")
    assert str(last["reason"]).startswith("no progress for ")
    assert last["signal"] == "SIGKILL"
    text = Home(tmp_path).log_file("meter").read_text()
    assert "most recent call first" in text, "the stacks of its threads"
    assert "faults.py" in text
