"""A failing stage is one alert an episode, with a deterministic id, sent without any stage; so is its recovery."""

from types import SimpleNamespace

import msgspec
import pytest

from pipelines.kafka import KafkaConfig
from pipelines.notify.spec import parse_channels
from pipelines.notify.stage import NotifyConfig
from tailrace.demo.receiver import Receiver, listening
from tailrace.home.layout import Home
from tailrace.monitor.watch import isolated
from tailrace.supervisor.stage_alerts import RECOVERED_AFTER_S, StageAlerts

S = 1_000_000
FAILING = {
    "position": "llm.rollups[0]@1807",
    "ends": 3,
    "since": 1_790_000_000 * S,
    "cause": "no progress for 61 s: killed by the supervisor",
}


@pytest.fixture
def receiver():
    with listening(Receiver()) as running:
        yield running


@pytest.fixture
def clock():
    return SimpleNamespace(now=1_790_000_100 * S)


def alerts(home, clock, *receivers, **how):
    entries = [{"name": f"r{i}", "url": r.url, "secret": r.secret, **how} for i, r in enumerate(receivers)]
    config = NotifyConfig(
        KafkaConfig("127.0.0.1:9", ""),  # no broker listens there, and none is needed
        parse_channels(entries),
        tuple(r.url.split("/")[2] for r in receivers),
    )
    return StageAlerts(Home(home), lambda: config, lambda: clock.now)


def test_one_episode_is_one_alert_with_position_and_cause_and_one_recovery(tmp_path, receiver, clock):
    sender = alerts(tmp_path, clock, receiver)
    for _ in range(3):
        sender.step({"detect": FAILING}, ())
        clock.now += S
    sender.step({}, {"detect"})  # it runs, for a moment
    sender.step({"detect": {**FAILING, "position": "llm.rollups[0]@1808", "ends": 3}}, ())
    assert len(receiver.alerts) == 1, "at the next record it is the same incident"
    (alert,) = receiver.alerts
    assert alert.title == f"stage detect is failing at llm.rollups[0]@1807: {FAILING['cause']}"
    assert (alert.state, alert.seq, alert.severity, alert.series) == ("firing", 0, "critical", {"stage": "detect"})
    sender.step({}, {"detect"})
    clock.now += int(RECOVERED_AFTER_S * S)
    sender.step({}, {"land"})
    assert len(receiver.alerts) == 1, "no word of it is no recovery"
    sender.step({}, {"detect"})
    sender.step({}, {"detect"})
    assert [(a.id, a.seq, a.state) for a in receiver.alerts[1:]] == [(alert.id, 1, "resolved")]
    assert receiver.alerts[1].title == "stage detect runs again"


def test_the_id_is_that_of_stage_and_position_and_a_second_episode_there_goes_on_with_the_next_seq(
    tmp_path, receiver, clock
):
    for home in (tmp_path / "a", tmp_path / "b"):
        sender = alerts(home, clock, receiver)
        sender.step({"detect": FAILING}, ())
        sender.step({}, {"detect"})
        clock.now += int(RECOVERED_AFTER_S * S)
        sender.step({}, {"detect"})
        sender.step({"detect": FAILING}, ())
    assert {a.id for a in receiver.alerts} == {receiver.alerts[0].id}
    assert [a.seq for a in receiver.alerts] == [0, 1, 2]
    assert receiver.repeats == 3, "another home at the same place, hours later: the same three"
    sender.step({"detect": FAILING, "land": FAILING}, ())
    assert receiver.alerts[-1].id != receiver.alerts[0].id


def test_a_restarted_supervisor_neither_repeats_nor_forgets(tmp_path, receiver, clock):
    alerts(tmp_path, clock, receiver).step({"detect": FAILING}, ())
    again = alerts(tmp_path, clock, receiver)
    again.step({"detect": FAILING}, ())
    assert (len(receiver.alerts), receiver.repeats) == (1, 0)
    again.step({}, {"detect"})
    clock.now += int(RECOVERED_AFTER_S * S)
    alerts(tmp_path, clock, receiver).step({}, {"detect"})
    assert [a.state for a in receiver.alerts] == ["firing", "resolved"]


def test_a_channel_that_does_not_answer_gets_it_later_in_order_and_holds_up_no_other(tmp_path, receiver, clock):
    with listening(Receiver()) as away:
        take, away.take = away.take, lambda *_: 503
        sender = alerts(tmp_path, clock, away, receiver)
        sender.step({"detect": FAILING}, ())
        sender.step({}, {"detect"})
        clock.now += int(RECOVERED_AFTER_S * S)
        sender.step({}, {"detect"})
        assert [a.state for a in receiver.alerts] == ["firing", "resolved"]
        away.take = take
        for _ in range(5):
            clock.now += 120 * S
            sender.step({}, {"detect"})
        assert [a.state for a in away.alerts] == ["firing", "resolved"]
        assert len(receiver.alerts) == 2


def test_a_channel_with_a_route_is_left_out_unless_every_channel_has_one(tmp_path, receiver, clock):
    sender = alerts(tmp_path, clock, receiver, route={"app": ["shop"]})
    sender.step({"detect": FAILING}, ())
    assert len(receiver.alerts) == 1


def test_no_channel_and_a_journal_that_cannot_be_read_stop_nobody(tmp_path, receiver, clock):
    alerts(tmp_path, clock).step({"detect": FAILING}, ())
    Home(tmp_path).write_run("stage_alerts", {"last": [], "outbox": 7})
    alerts(tmp_path, clock, receiver).step({"detect": FAILING}, ())
    assert len(receiver.alerts) == 1
    assert msgspec.json.decode((tmp_path / "run" / "stage_alerts.json").read_bytes())["outbox"] == []


def test_a_stage_that_judges_without_a_detector_is_an_alert_and_is_over_when_all_judge(tmp_path, receiver, clock):
    sender = alerts(tmp_path, clock, receiver)
    left_out = ["detector spike is left out for app bot since llm.rollups[0]@12", "detector surge is ..."]
    part = "detect: every detector"
    for _ in range(3):
        sender.step({part: isolated("detect", left_out)}, {"detect"})
        clock.now += S
    (alert,) = receiver.alerts
    assert alert.title == f"stage detect: {left_out[0]}, and 1 more: it raised an error; the others go on"
    assert "detector_isolated" in alert.runbook[0]
    for _ in range(2):
        sender.step({}, {"detect", part})
        clock.now += int(RECOVERED_AFTER_S * S)
    assert [a.state for a in receiver.alerts] == ["firing", "resolved"]
    assert receiver.alerts[-1].title == "detect: every detector runs again"
