"""A release that is posted is the one that the command marks; what is no release is refused with its remedy."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from pipelines.kafka import Source
from schemas.errors import KafkaUnavailableError
from schemas.releases import Release
from schemas.topics import LOG
from tailrace import wiring
from tailrace.broker import Broker
from tailrace.monitor.endpoint import RELEASES, Endpoint, serving
from tailrace.monitor.watch import Watch
from tailrace.records.manifest import Origin, manifest_of
from tailrace.records.release import mark_of
from tailrace.records.release_api import MOST_BYTES, ReleaseApi
from tailrace.settings.model import KafkaSettings, Settings, WebSettings

NOW = 1_790_000_000_000_000
TOKEN = "a-token-of-this-test"
PARTS: dict[str, Any] = {"release": "2.4.1", "prompts": {"answer": "18"}, "code": "3f2c9d1"}


class Log:
    """Releases that landed, and those that were sent and have not."""

    def __init__(self) -> None:
        self.landed: list[Release] = []
        self.sent: list[Release] = []
        self.away = False
        self.api = ReleaseApi(known=lambda app: [r for r in self.landed if r.app == app], send=self.send, now=self.now)
        self.clock = NOW

    def now(self) -> int:
        self.clock += 1
        return self.clock

    def send(self, release: Release) -> None:
        if self.away:
            raise KafkaUnavailableError("127.0.0.1:9", "send", "no answer")
        self.sent.append(release)

    def post(self, **body: Any) -> tuple[int, dict[str, Any]]:
        return self.api.receive(json.dumps({"app": "bot", **body}).encode())


def test_it_is_the_mark_that_the_command_makes() -> None:
    log = Log()
    status, answer = log.post(**PARTS, by="deploy")
    made = mark_of("bot", manifest_of(PARTS, Origin("", "", None)), [], actor="deploy", at=NOW + 1)
    assert status == 201
    assert log.sent == [made]
    assert (answer["id"], answer["new"], answer["manifest"]["prompts.answer"]) == (made.id, True, "18")


@pytest.mark.parametrize("landed", [False, True], ids=["before it landed", "after it landed"])
def test_posted_again_it_is_one_release_and_going_back_is_another(landed: bool) -> None:
    log = Log()
    assert log.post(**PARTS)[0] == 201
    if landed:
        log.landed += log.sent
    assert log.post(**PARTS)[0] == 200
    assert log.post(**{**PARTS, "release": "2.4.2", "prompts": {"answer": "19"}})[0] == 201
    assert log.post(**PARTS)[0] == 201
    assert len({each.id for each in log.sent}) == 3
    assert log.api.receive(json.dumps({"app": "shop", **PARTS}).encode())[0] == 201, "another app has its own"


def test_one_that_kafka_did_not_take_is_posted_again_under_the_same_id() -> None:
    log = Log()
    log.away = True
    status, answer = log.post(**PARTS)
    assert (status, log.sent) == (503, [])
    assert "post it again" in answer["error"]
    log.away = False
    assert log.post(**PARTS)[0] == 201


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b"[" * 10_000, "it is not JSON"),
        (b"[]", "it is no object"),
        (b"{}", "app is missing"),
        (b'{"app": " "}', "app is missing"),
        (b'{"app": 7}', "app is no text"),
        (b'{"app": "bot"}', "it names nothing that runs"),
        (b'{"app": "bot", "prompt": "18"}', "unknown part 'prompt'"),
        (b'{"app": "bot", "code": 1.5}', "put it in quotes"),
        (b'{"app": "bot", "code": {"file": "/etc/passwd"}}', "send its sha256"),
        (b'{"app": "bot", "prompts": {"answer": {"file": "/etc/passwd"}}}', "send its sha256"),
        (b'{"app": "bot", "code": "1", "at": "2999-01-01T00:00:00Z"}', "at is after now"),
        (b'{"app": "bot", "code": "1", "at": "soon"}', "cannot read 'soon'"),
    ],
)
def test_what_is_no_release_is_refused_with_a_remedy(body: bytes, problem: str) -> None:
    log = Log()
    status, answer = log.api.receive(body)
    assert status == 400
    assert problem in answer["error"]
    assert log.sent == []


def served(log: Log, token: str | None = None) -> Endpoint:
    return Endpoint(
        WebSettings.model_validate({"token": token}),
        health=lambda: (True, {}),
        metrics=lambda: b"",
        release=lambda body: log.api.receive(body),
    )


def test_over_http_it_needs_the_token_and_json_also_on_loopback() -> None:
    log, right = Log(), {"Authorization": f"Bearer {TOKEN}"}
    with serving(served(log, token=TOKEN), WebSettings(port=0)) as url, httpx.Client(base_url=url) as client:
        assert client.post(RELEASES, json={"app": "bot", **PARTS}).status_code == 401
        wrong = {"Authorization": f"Bearer {TOKEN}x"}
        assert client.post(RELEASES, json={"app": "bot", **PARTS}, headers=wrong).status_code == 401
        form = {**right, "Content-Type": "text/plain"}
        assert client.post(RELEASES, content=json.dumps({"app": "bot", **PARTS}), headers=form).status_code == 415
        rebound = {**right, "Host": "evil.example"}
        assert client.post(RELEASES, json={"app": "bot", **PARTS}, headers=rebound).status_code == 421
        assert client.post("/metrics", json={}, headers=right).status_code == 404
        assert client.get(RELEASES, headers=right).status_code == 405
        large = {**right, "Content-Type": "application/json"}
        assert client.post(RELEASES, content=b" " * (MOST_BYTES + 1), headers=large).status_code == 413
        assert client.post(RELEASES, content=iter([b"{}"]), headers=large).status_code == 411
        assert log.sent == []
        answer = client.post(RELEASES, json={"app": "bot", **PARTS}, headers=right)
        assert (answer.status_code, answer.json()["release"]) == (201, "2.4.1")
    assert len(log.sent) == 1


def test_without_a_token_in_the_settings_nothing_is_changed_from_outside() -> None:
    log = Log()
    with serving(served(log), WebSettings(port=0)) as url:
        answer = httpx.post(url + RELEASES, json={"app": "bot", **PARTS})
    assert answer.status_code == 403
    assert "TAILRACE_WEB__TOKEN" in answer.json()["error"]
    assert log.sent == []


def test_up_takes_it_and_it_is_on_llm_log(tmp_path: Any, broker: Broker, prefix: str) -> None:
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, prefix=prefix, partitions=1)
    settings = Settings(home=tmp_path, kafka=kafka, web=WebSettings.model_validate({"port": 0, "token": TOKEN}))
    wiring.make_topics(settings, broker.bootstrap)
    with Watch(settings).over(broker.bootstrap) as url:
        assert url is not None
        given = {"Authorization": f"Bearer {TOKEN}"}
        first = httpx.post(url + RELEASES, json={"app": "bot", **PARTS}, headers=given, timeout=30)
        again = httpx.post(url + RELEASES, json={"app": "bot", **PARTS}, headers=given, timeout=30)
    assert (first.status_code, again.status_code) == (201, 200), first.text
    source = Source(wiring.kafka(settings), [LOG], batch_wait_s=0.2)
    source.assign({(LOG, 0): 0})
    read: list[bytes] = []
    while not read:
        read = [value for batch in source.poll() for value in batch.values if value is not None]
    source.close()
    (record,) = map(json.loads, read)
    assert (record["table"], record["row"]["id"], record["row"]["actor"]) == ("releases", first.json()["id"], "api")
