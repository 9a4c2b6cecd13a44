"""The whole stage on a real broker and real HTTP: at least once, in order, under one id, with no secret told."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fault_harness.zygote import Code, run_command
from standardwebhooks import Webhook

from pipelines.kafka import Admin, KafkaConfig, Producer, read_all
from pipelines.notify.backlog import Lateness
from pipelines.notify.spec import parse_channels
from pipelines.notify.stage import NotifyConfig, run, send_once
from schemas.alerts import SILENCE, UNSILENCE, Alert, Cause, Delivery, Evidence, LogRecord, Silence
from schemas.errors import SettingsError
from schemas.topics import ALERTS, DELIVERIES, LOG, TOPICS

STATES = ("firing", "resolved")
SECRET = "whsec_" + base64.b64encode(b"canary-secret-of-24-bytes").decode()
REPO = Path(__file__).parents[3]

Make = Callable[..., Alert]


class Notify:
    """Topics of its own, a stage in a thread, and what both ends saw."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self.kafka = kafka
        self.beats: list[dict[str, object]] = []
        self.clock_set_by_s = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        Admin(kafka).create_topics([t for t in TOPICS if t.name in (ALERTS, DELIVERIES, LOG)], partitions=1)

    def raise_alerts(self, *alerts: Alert | bytes) -> None:
        producer = Producer(self.kafka)
        for alert in alerts:
            producer.send(ALERTS, alert if isinstance(alert, bytes) else alert.to_json())
        producer.flush()

    def decide(self, action: str, target: str, **facts: Any) -> None:
        row = {"actor": "kim", "action": action, "object": target, **facts}
        producer = Producer(self.kafka)
        producer.send(LOG, msgspec.json.encode(LogRecord(table="audit", at=self.now(), row=row)))
        producer.flush()

    def config(
        self, *channels: dict[str, Any], hosts: tuple[str, ...] = ("127.0.0.1",), **options: Any
    ) -> NotifyConfig:
        fast = {"deadline_s": 2.0, "retry_base_s": 0.2, "retry_cap_s": 0.4, **options}
        return NotifyConfig(self.kafka, parse_channels(channels), hosts, **fast)

    def now(self) -> int:
        return time.time_ns() // 1000 + self.clock_set_by_s * 1_000_000

    def start(self, *channels: dict[str, Any], **options: Any) -> Notify:
        self._stop.clear()
        config = self.config(*channels, **options)
        arguments = {"stop": self._stop, "heartbeat": lambda facts: self.beats.append(facts.flat()), "now": self.now}
        self._thread = threading.Thread(target=run, args=(config,), kwargs=arguments, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stop.set()
        if self._thread:
            self._thread.join(15)
            assert not self._thread.is_alive()

    def records(self) -> list[Delivery]:
        return [msgspec.json.decode(r.value or b"", type=Delivery) for r in read_all(self.kafka, DELIVERIES)]

    def states(self) -> dict[tuple[str, int, str], str]:
        return {(d.alert_id, d.seq, d.channel): d.state for d in self.records()}

    def wait_until(self, done: Callable[[], bool], within_s: float = 15.0) -> None:
        until = time.monotonic() + within_s
        while not done() and time.monotonic() < until:
            time.sleep(0.05)
        assert done(), self.records()

    def wait_settled(self, count: int, within_s: float = 15.0) -> dict[tuple[str, int, str], str]:
        final = ("delivered", "failed", "silenced")
        self.wait_until(lambda: sum(s in final for s in self.states().values()) >= count, within_s)
        return self.states()


@pytest.fixture
def notify(broker: Any, prefix: str) -> Iterator[Notify]:
    running = Notify(KafkaConfig(broker.bootstrap, prefix))
    yield running
    running.stop()


def hook(receiver: Any, name: str = "hook", **more: Any) -> dict[str, Any]:
    return {"name": name, "url": receiver.url(f"/{name}"), "secret": SECRET, **more}


def test_an_alert_goes_from_the_topic_to_slack_and_to_a_signed_webhook(
    notify: Notify, receiver: Any, make_alert: Make
) -> None:
    firing, resolved = make_alert(), make_alert(seq=1, state="resolved")
    notify.raise_alerts(firing, b"{not json", b'{"id":"\xff"}', b'{"zz":' + b"[" * 5_000, resolved)
    slack = {"name": "oncall", "kind": "slack", "url": receiver.url("/slack")}
    notify.start(hook(receiver), slack)
    states = notify.wait_settled(4)
    assert set(states.values()) == {"delivered"}
    hooks = [g for g in receiver.got if g.path == "/hook"]
    assert [g.body for g in hooks] == [firing.to_json(), resolved.to_json()]
    for got in hooks:
        Webhook(SECRET).verify(got.body, got.headers)
    assert [g.headers["webhook-id"] for g in hooks] == [f"{firing.id}-0", f"{firing.id}-1"]
    lines = [json.loads(g.body)["text"] for g in receiver.got if g.path == "/slack"]
    assert [line[:10] for line in lines] == ["🔴 FIRING ·", "✅ RESOLVED"]
    for key in states:
        mine = [d.state for d in notify.records() if (d.alert_id, d.seq, d.channel) == key]
        assert mine == ["pending", "delivered"]
    assert notify.beats[-1]["lag"] == 0


@pytest.mark.parametrize("texts", [False, True])
def test_a_text_of_a_prompt_leaves_only_where_the_setting_allows_it(
    notify: Notify, receiver: Any, make_alert: Make, texts: bool
) -> None:
    cause = Cause("topic", "canary of a prompt", 0.9, "grew from 0% to 57%: e.g. “canary of a prompt”")
    sql = f"SELECT list_cosine_similarity(vector, [{','.join(['17'] * 384)}]) AS observed FROM embeddings"
    notify.raise_alerts(make_alert(detector="drift", cause=(cause,), evidence=Evidence(sql, ("c-1",))))
    slack = {"name": "oncall", "kind": "slack", "url": receiver.url("/slack")}
    notify.start(hook(receiver), slack, texts=texts)
    assert set(notify.wait_settled(2).values()) == {"delivered"}
    for got in receiver.got:
        assert ("canary of a prompt" in got.body.decode()) is texts, got.path
        assert b"17,17" not in got.body


QUICK = Lateness(quiet_s=1.0)


def test_a_backlog_of_41_incidents_long_over_is_one_message_not_82(
    notify: Notify, receiver: Any, make_alert: Make
) -> None:
    past = [make_alert(rule=f"r{n}", seq=q, state=s, late=True) for n in range(41) for q, s in enumerate(STATES)]
    notify.raise_alerts(*past, make_alert(rule="open", late=True))
    slack = {"name": "oncall", "kind": "slack", "url": receiver.url("/slack")}
    notify.start(hook(receiver), slack, late=QUICK)
    states = notify.wait_settled(2 * (82 + 2))
    assert set(states.values()) == {"delivered"}
    hooks = [Alert.from_json(g.body) for g in receiver.got if g.path == "/hook"]
    assert sorted((a.rule, a.state) for a in hooks) == [("late_digest", "resolved"), ("open", "firing")]
    sent = sorted((json.loads(g.body) for g in receiver.got if g.path == "/slack"), key=lambda body: body["text"])
    lines = [body["text"] for body in sent]
    assert len(lines) == 2
    assert lines[1].startswith("🕓 DIGEST · critical · 41 incidents of the past in shop, all over, found late")
    assert lines[0].startswith("🔴 FIRING")
    assert "ago, found late" in json.dumps(sent[0])
    notify.stop()
    notify.start(hook(receiver), slack, late=QUICK)
    notify.raise_alerts(make_alert(rule="now"))
    notify.wait_settled(2 * (82 + 2) + 2)
    assert len(receiver.got) == 6


def test_alerts_that_begin_at_once_are_one_message_to_people_and_each_one_to_a_machine(
    notify: Notify, receiver: Any, make_alert: Make
) -> None:
    notify.raise_alerts(*(make_alert(rule=f"r{n}") for n in range(30)))
    slack = {"name": "people", "kind": "slack", "url": receiver.url("/people")}
    notify.start(slack, hook(receiver))
    notify.wait_settled(30 + 30 + 1, 40.0)
    told = [json.loads(request.body) for request in receiver.got if request.path == "/people"]
    assert [t["text"].split(" · ")[2] for t in told] == ["30 incidents began at once in shop; tenant acme"]
    assert len([1 for request in receiver.got if request.path == "/hook"]) == 30


def test_a_notify_killed_between_the_digest_and_its_record_sends_it_again_under_the_same_id(
    notify: Notify, receiver: Any, make_alert: Make
) -> None:
    notify.raise_alerts(
        *(make_alert(rule=f"r{n}", seq=q, state=s, late=True) for n in range(3) for q, s in enumerate(STATES))
    )
    child = killed(notify, receiver, "notify.after_post", quiet_s=1.0)
    assert child.returncode == -9, child.stderr
    notify.start(hook(receiver), late=QUICK)
    assert set(notify.wait_settled(7).values()) == {"delivered"}
    assert len(receiver.got) == 2
    assert len({(g.headers["webhook-id"], g.body) for g in receiver.got}) == 1


def test_a_silence_made_by_another_process_holds_at_once_and_after_a_restart(
    notify: Notify, receiver: Any, make_alert: Make
) -> None:
    now = notify.now()
    silence = Silence(id="s-1", matchers={"rule": "a"}, start=now, end=now + 3_600_000_000, by="kim", why="load test")
    notify.start(hook(receiver))
    notify.raise_alerts(make_alert(rule="first"))
    notify.wait_settled(1)
    notify.decide(SILENCE, "s-1", silence=silence)
    notify.wait_until(lambda: notify.beats[-1]["silences"] == 1)
    notify.raise_alerts(make_alert(rule="a"), make_alert(rule="b"))
    notify.wait_settled(3)
    notify.stop()
    notify.start(hook(receiver))
    notify.raise_alerts(make_alert(rule="a", seq=1, state="update"))
    notify.wait_settled(4)
    kept = [(d.seq, d.detail) for d in notify.records() if d.state == "silenced"]
    assert kept == [(0, "silence s-1 of kim: load test"), (1, "silence s-1 of kim: load test")]
    notify.decide(UNSILENCE, "s-1")
    notify.wait_until(lambda: notify.beats[-1]["silences"] == 0)
    notify.raise_alerts(make_alert(rule="a", seq=2, state="update"))
    notify.wait_settled(5)
    assert [json.loads(g.body)["rule"] for g in receiver.got] == ["first", "b", "a"]


def test_without_llm_log_alerts_go_out_all_the_same(notify: Notify, receiver: Any, make_alert: Make) -> None:
    Admin(notify.kafka).delete_topics([LOG])
    notify.raise_alerts(make_alert())
    notify.start(hook(receiver))
    assert set(notify.wait_settled(1, within_s=40).values()) == {"delivered"}


def test_a_restart_sends_nothing_twice_and_goes_on(notify: Notify, receiver: Any, make_alert: Make) -> None:
    notify.raise_alerts(make_alert(rule="a"), make_alert(rule="a"))
    notify.start(hook(receiver))
    notify.wait_settled(1)
    notify.stop()
    notify.raise_alerts(make_alert(rule="a"), make_alert(rule="b"))
    notify.start(hook(receiver))
    notify.wait_settled(2)
    assert [json.loads(g.body)["rule"] for g in receiver.got] == ["a", "b"]


@pytest.mark.row(29)
def test_a_choking_receiver_gets_the_same_id_and_body_again(notify: Notify, receiver: Any, make_alert: Make) -> None:
    receiver.then(500).then(503).then(200, hold_s=5.0).then(200, drip_s=1.0, body=b"slow drip")
    alert = make_alert()
    notify.raise_alerts(alert)
    notify.start(hook(receiver), deadline_s=0.5)
    notify.wait_settled(1)
    assert len(receiver.got) == 5
    assert {g.headers["webhook-id"] for g in receiver.got} == {f"{alert.id}-0"}
    assert {g.body for g in receiver.got} == {alert.to_json()}
    details = [d.detail for d in notify.records()]
    slow = "no whole answer within 0.5 s"
    assert details == ["", "HTTP 500", "HTTP 503", slow, slow, "HTTP 200"]
    assert [d.attempts for d in notify.records()] == [0, 1, 2, 3, 4, 5]


@pytest.mark.row(62)
@pytest.mark.parametrize("set_by_s", [-3_600, 48 * 3_600], ids=["an hour back", "two days ahead"])
def test_a_clock_that_is_set_neither_holds_up_what_waits_nor_gives_it_up(
    notify: Notify, receiver: Any, make_alert: Make, set_by_s: int
) -> None:
    receiver.then(500).then(500)
    waits = make_alert()
    notify.raise_alerts(waits)
    notify.start(hook(receiver), retry_base_s=2.0, retry_cap_s=2.0)
    notify.wait_until(lambda: any(d.state == "retry" for d in notify.records()))
    notify.clock_set_by_s = set_by_s
    assert set(notify.wait_settled(1).values()) == {"delivered"}
    assert [g.headers["webhook-id"] for g in receiver.got] == [f"{waits.id}-0"] * 3


@pytest.mark.row(62)
def test_what_a_clock_far_ahead_has_written_is_not_waited_for_after_a_restart(
    notify: Notify, receiver: Any, make_alert: Make
) -> None:
    receiver.then(500)
    notify.raise_alerts(make_alert())
    notify.clock_set_by_s = 300 * 86_400
    notify.start(hook(receiver), retry_base_s=60.0, retry_cap_s=60.0, give_up_after_s=10.0**9)
    notify.wait_until(lambda: any(d.state == "retry" for d in notify.records()))
    notify.stop()
    notify.clock_set_by_s = 0
    notify.start(hook(receiver))
    assert set(notify.wait_settled(1).values()) == {"delivered"}


@pytest.mark.row(28)
def test_a_rate_limit_is_waited_out_and_no_alert_is_lost(notify: Notify, receiver: Any, make_alert: Make) -> None:
    receiver.then(429, headers=(("retry-after", "1"),))
    notify.raise_alerts(*(make_alert(rule=f"r{n}") for n in range(3)))
    notify.start({"name": "oncall", "kind": "slack", "url": receiver.url("/slack")})
    assert set(notify.wait_settled(3).values()) == {"delivered"}
    assert len(receiver.got) == 4
    limited = next(d for d in notify.records() if d.state == "retry")
    assert limited.retry_at is not None
    assert limited.retry_at - limited.at >= 1_000_000
    assert receiver.got[1].at - receiver.got[0].at >= 0.99


@pytest.mark.parametrize("status", [400, 401, 403, 404, 302])
@pytest.mark.row(30, 31)
def test_what_cannot_pass_is_attempted_once(notify: Notify, receiver: Any, make_alert: Make, status: int) -> None:
    receiver.always(status, headers=(("location", receiver.url("/elsewhere")),))
    notify.raise_alerts(make_alert(), make_alert(seq=1, state="resolved"))
    notify.start(hook(receiver))
    assert set(notify.wait_settled(2).values()) == {"failed"}
    assert [g.path for g in receiver.got] == ["/hook", "/hook"]
    assert notify.beats[-1]["disabled"] == []


@pytest.mark.row(30)
def test_410_disables_the_channel_and_status_shows_it(notify: Notify, receiver: Any, make_alert: Make) -> None:
    receiver.on("/old", 410)
    notify.raise_alerts(make_alert(rule="a"))
    notify.start(hook(receiver, "old"), hook(receiver, "new"))
    notify.wait_settled(2)
    notify.raise_alerts(make_alert(rule="b"))
    states = notify.wait_settled(4)
    assert sorted((c, s) for (_, _, c), s in states.items()) == [("new", "delivered")] * 2 + [("old", "failed")] * 2
    assert [g.path for g in receiver.got].count("/old") == 1
    notify.wait_until(lambda: notify.beats[-1]["disabled"] == ["old"])


@pytest.mark.row(27)
def test_a_dead_receiver_holds_up_no_other_and_gets_its_alerts_when_it_is_back(
    notify: Notify, receiver: Any, start_receiver: Callable[..., Any], make_alert: Make
) -> None:
    gone = start_receiver()
    port = gone.port
    gone.close()
    notify.raise_alerts(*(make_alert(rule=f"r{n}") for n in range(5)))
    notify.start({"name": "dead", "url": f"http://127.0.0.1:{port}/x"}, hook(receiver))
    receiver.wait_for(5)
    notify.wait_until(lambda: notify.beats[-1]["retrying"] == 5)
    back = start_receiver(port=port)
    assert set(notify.wait_settled(10).values()) == {"delivered"}
    assert len({g.headers["webhook-id"] for g in back.got}) == 5


def test_a_storm_reaches_a_slow_receiver_whole_and_in_order_by_four_hands(
    notify: Notify, receiver: Any, make_alert: Make
) -> None:
    receiver.always(200, hold_s=0.02)
    firing = [make_alert(rule=f"r{n}") for n in range(250)]
    notify.raise_alerts(*firing, *(make_alert(rule=f"r{n}", seq=1, state="resolved") for n in range(250)))
    notify.start(hook(receiver))
    hands: list[int] = []

    def delivered() -> bool:
        hands.append(sum(t.name == "notify-attempt" for t in threading.enumerate()))
        return bool(notify.beats) and notify.beats[-1]["delivered"] == 500

    notify.wait_until(delivered, within_s=120)
    # one that has reported may still be ending when the next begins
    assert 1 < max(hands) <= 8
    assert notify.beats[-1]["messages_waiting"] == 0
    told = [g.headers["webhook-id"] for g in receiver.got]
    assert len(told) == len(set(told)) == 500
    place = {id_: n for n, id_ in enumerate(told)}
    assert all(place[f"{a.id}-0"] < place[f"{a.id}-1"] for a in firing)
    first = sorted(firing, key=lambda a: place[f"{a.id}-0"])
    assert all(abs(n - firing.index(a)) <= 8 for n, a in enumerate(first)), "who came first is told first"


@pytest.mark.row(27)
def test_what_could_not_be_delivered_in_time_is_failed_and_shown(
    notify: Notify, black_hole: int, make_alert: Make
) -> None:
    notify.raise_alerts(make_alert())
    url = f"http://127.0.0.1:{black_hole}/"
    notify.start({"name": "hole", "url": url}, deadline_s=0.3, give_up_after_s=1.5)
    assert list(notify.wait_settled(1).values()) == ["failed"]
    last = notify.records()[-1]
    assert last.attempts >= 1
    assert last.detail.endswith("last: no whole answer within 0.3 s")


def test_severity_and_route_choose_and_the_rest_is_silenced(notify: Notify, receiver: Any, make_alert: Make) -> None:
    notify.raise_alerts(make_alert(rule="a"), make_alert(rule="b", severity="info"))
    loud = hook(receiver, "loud", min_severity="critical")
    elsewhere = hook(receiver, "search", route={"app": ["search"]})
    notify.start(loud, elsewhere)
    states = notify.wait_settled(4)
    assert sorted((c, s) for (_, _, c), s in states.items()) == [
        ("loud", "delivered"), ("loud", "silenced"), ("search", "silenced"), ("search", "silenced"),
    ]  # fmt: skip
    assert [json.loads(g.body)["rule"] for g in receiver.got] == ["a"]


CHILD = """
import sys, threading
from pipelines.kafka import KafkaConfig
from pipelines.notify.backlog import Lateness
from pipelines.notify.spec import parse_channels
from pipelines.notify.stage import NotifyConfig, run
bootstrap, prefix, url, secret, late = sys.argv[1:]
channels = parse_channels([{"name": "hook", "url": url, "secret": secret}])
kafka, late = KafkaConfig(bootstrap, prefix), Lateness(quiet_s=float(late))
config = NotifyConfig(kafka, channels, ("127.0.0.1",), deadline_s=2.0, late=late)
run(config, stop=threading.Event())
"""


def killed(notify: Notify, receiver: Any, fault: str, *, quiet_s: float = 30.0) -> subprocess.CompletedProcess[str]:
    """Run a notify of its own that kills itself at ``fault``."""
    arguments = [notify.kafka.bootstrap_servers, notify.kafka.prefix, receiver.url("/hook"), SECRET, str(quiet_s)]
    code = Code(CHILD, ("pipelines.notify.stage",))
    return run_command(arguments, code=code, env={**os.environ, "TAILRACE_FAULT": f"{fault}:kill"}, timeout=60)


@pytest.mark.parametrize(
    ("fault", "posts", "states"),
    [
        ("notify.before_post", 1, ["pending", "delivered"]),
        ("notify.after_post", 2, ["pending", "delivered"]),
        ("notify.after_mark", 1, ["pending", "delivered"]),
    ],
)
@pytest.mark.row(7)
def test_row_7_killed_around_the_post_it_is_delivered_again_with_the_same_id(
    notify: Notify, receiver: Any, make_alert: Make, fault: str, posts: int, states: list[str]
) -> None:
    alert = make_alert()
    notify.raise_alerts(alert)
    child = killed(notify, receiver, fault)
    assert child.returncode == -9, child.stderr
    assert "canary" not in child.stdout + child.stderr
    notify.start(hook(receiver))
    notify.wait_settled(1)
    notify.raise_alerts(make_alert(rule="next"))
    notify.wait_settled(2)
    mine = [g for g in receiver.got if g.headers["webhook-id"] == f"{alert.id}-0"]
    assert len(mine) == posts
    assert {g.body for g in mine} == {alert.to_json()}
    assert [d.state for d in notify.records() if d.alert_id == alert.id] == states


def test_no_secret_reaches_a_log_a_record_or_an_error(
    notify: Notify,
    receiver: Any,
    make_alert: Make,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.then(500, body=b"canary said http://127.0.0.1/canary").then(404, body=b"canary")
    notify.raise_alerts(make_alert())
    url = {"name": "oncall", "kind": "slack", "url": receiver.url("/services/T0/B0/canary")}
    notify.start(url, hook(receiver), {"name": "app", "url": f"gotify://{receiver.host}/canarytoken"})
    notify.wait_settled(3)
    notify.stop()
    written = b"".join(msgspec.json.encode(d) for d in notify.records()).decode()
    printed = capsys.readouterr()
    assert "alert_attempted" in printed.out + printed.err
    config = repr(notify.config(url, hook(receiver)))
    for text in (written, printed.out, printed.err, caplog.text, config, repr(notify.beats)):
        assert "canary" not in text
        assert SECRET not in text
        assert receiver.host not in text


def test_an_unknown_kind_stops_the_start(notify: Notify) -> None:
    config = notify.config({"name": "x", "kind": "pigeon", "url": "https://example.org/"})
    with pytest.raises(SettingsError, match="pigeon"):
        run(config, stop=threading.Event())


def test_one_attempt_without_kafka_tells_what_each_channel_said(receiver: Any, make_alert: Make) -> None:
    receiver.on("/bad", 404)
    channels = parse_channels([hook(receiver), hook(receiver, "bad")])
    config = NotifyConfig(KafkaConfig("127.0.0.1:1"), channels, ("127.0.0.1",))
    assert {n: o.kind for n, o in send_once(config, make_alert()).items()} == {"hook": "delivered", "bad": "failed"}


def test_without_topics_it_waits_for_them_and_stops_when_asked(
    broker: Any, prefix: str, receiver: Any, make_alert: Make
) -> None:
    stop = threading.Event()
    kafka = KafkaConfig(broker.bootstrap, prefix)
    config = NotifyConfig(kafka, parse_channels([hook(receiver)]), ("127.0.0.1",))
    thread = threading.Thread(target=run, args=(config,), kwargs={"stop": stop}, daemon=True)
    thread.start()
    time.sleep(1.5)
    assert thread.is_alive()
    Notify(kafka).raise_alerts(make_alert())
    receiver.wait_for(1, within_s=20)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
