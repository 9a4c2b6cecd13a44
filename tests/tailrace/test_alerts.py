"""On call, by the real commands: lists, pages, acknowledgements, silences, over a real broker into a real lake."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fault_harness.zygote import run_command

from pipelines.clock import now_us
from pipelines.kafka import Admin, KafkaConfig, Producer, read_all
from pipelines.land import LandConfig, run
from pipelines.notify.decisions import Decisions
from schemas.alerts import Alert, Cause, Delivery, Evidence, Impact
from schemas.topics import ALERTS, DELIVERIES, EVENTS, LOG, TOPICS
from tailrace.home.layout import Home
from tests.tailrace.alerts import alert
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

REPO = Path(__file__).parents[2]
DAY = 86_400_000_000
TEXT = "canary of a prompt: where is my order?"
VECTOR = f"SELECT 0.5::DOUBLE AS observed WHERE len([{','.join(['17'] * 700)}]) > 0"
CALLS = ("0199f3a4-aaaa-7000-8000-000000000001", "0199f3a4-aaab-7000-8000-000000000002")
DEAD = "0199f3a4-dddd-7000-8000-000000000003"
DIGEST = str(uuid.UUID(int=0xD16E57))

OPEN = alert(
    {"app": "shop", "user": "u-17"},
    cause=(Cause("user", "u-17", 0.94, "user u-17: 94% of the rise"),),
    evidence=Evidence("SELECT count(*) AS observed FROM raw_calls WHERE app = 'shop'", CALLS),
    impact=Impact(calls=1200, users=1, usd_per_hour=48.5),
    runbook=("Look for a loop", "Rate-limit the user"),
    title="shop u-17: cost 12.4 USD, 4.0x the usual",
)
OVER = [
    alert(
        {"app": "help"}, rule="spike_tokens", title="help: tokens 12, 3.0x the usual", seq=seq, state=state, late=True
    )
    for seq, state in enumerate(("firing", "resolved"))
]
DRIFT = alert(
    {"app": "bot", "side": "input"},
    detector="drift",
    rule="input_drift",
    cause=(Cause("topic", TEXT, 0.9, f"grew from 0% to 57%: e.g. “{TEXT}”"),),
    evidence=Evidence(VECTOR, CALLS),
    title="bot: inputs drifted",
)


def event(call_id: str) -> bytes:
    body = {
        "v": 1, "type": "call", "id": call_id, "ts": now_us() // 1000, "app": "shop", "feature": "chat",
        "model": "gpt-4o", "provider": "openai", "latency": {"total_ms": 812.5}, "finish_reason": "stop",
        "tokens": {"input": 1000, "output": 200, "cache_read": 400},
        "content": {
            "mode": "full", "system": "You are helpful.", "output": "It is \x1b[31mon\x1b[0m its way.\nSoon.",
            "input": [{"role": "user", "text": TEXT}],
        },
        "tools": [{"name": "track", "ok": True, "ms": 12.0, "args": '{"order": 4711}'}],
        "retrieval": {
            "query": "order", "docs": [{"id": "d-1", "rank": 1, "score": 0.75, "text": "Orders take a day."}],
        },
        "guardrails": [{"name": "pii", "action": "flag", "stage": "input", "score": 0.9}],
    }  # fmt: skip
    return json.dumps(body).encode()


class OnCall:
    """Topics, a lake with a land that runs, and the command."""

    def __init__(self, kafka: KafkaConfig, home: Path) -> None:
        self.kafka, self.home = kafka, home
        self.lake = LakeConfig(str(Home(home).catalog), str(Home(home).data_path))

    def tailrace(self, *words: str, code: int = 0, columns: int = 80, out: bool = False, **settings: str) -> str:
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") and k != "COLUMNS"},
            "COLUMNS": str(columns),
            "TAILRACE_HOME": str(self.home),
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TAILRACE_KAFKA__PREFIX": self.kafka.prefix,
            **settings,
        }
        done = run_command(words, env=env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if out or code == 0 else done.stderr

    def decisions(self) -> Decisions:
        """What notify applies, in a process of its own."""
        found = Decisions()
        for record in read_all(self.kafka, LOG):
            found.apply(record.value or b"")
        return found


@pytest.fixture(scope="module")
def on_call(broker: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    kafka = KafkaConfig(broker.bootstrap, f"oc-{uuid.uuid4().hex[:8]}.")
    Admin(kafka).create_topics(TOPICS, partitions=1)
    found = OnCall(kafka, tmp_path_factory.mktemp("oncall"))
    producer = Producer(kafka)
    for call_id in CALLS:
        producer.send(EVENTS, event(call_id))
    producer.send(EVENTS, event(DEAD).replace(b'"input": 1000', b'"input": "\\u001b[31m"'))
    for each in (OPEN, *OVER, DRIFT):
        producer.send(ALERTS, each.to_json())
    deliveries = [
        Delivery(alert_id=OPEN.id, seq=0, channel="oncall", state="delivered", detail="HTTP 200", at=now_us())
    ]
    deliveries += [
        Delivery(alert_id=a.id, seq=a.seq, channel="oncall", state="delivered", digest=DIGEST, at=now_us())
        for a in OVER
    ]
    deliveries += [Delivery(alert_id=DIGEST, seq=0, channel="oncall", state="delivered", at=now_us())]
    for delivery in deliveries:
        producer.send(DELIVERIES, msgspec.json.encode(delivery), delivery.key())
    producer.flush(30)
    producer.close()
    stop = threading.Event()
    config = LandConfig(kafka, found.lake, batch_wait_s=0.2)
    thread = threading.Thread(target=run, args=(config,), kwargs={"stop": stop, "now": now_us}, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not _landed(found):
        assert time.monotonic() < until
        time.sleep(0.2)
    yield found
    stop.set()
    thread.join(30)


def _landed(found: OnCall) -> bool:
    if not Path(found.lake.catalog).exists():
        return False
    from schemas.errors import TailraceError

    try:
        with ReadOnlyLake.open(found.lake) as lake:
            counts = [lake.query(f"FROM {name}").num_rows for name in ("raw_calls", "dead", "alerts", "deliveries")]
            return counts == [2, 1, 4, 4]
    except TailraceError:
        return False


def test_the_list_has_a_row_an_incident_with_its_whole_id_at_80_columns(on_call: OnCall) -> None:
    printed = on_call.tailrace("alerts", "list")
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith(OVER[0].id)] == [f"{OVER[0].id}  RESOLVED critical"]
    for each in (OPEN, DRIFT):
        assert f"{each.id}  FIRING critical" in lines
    assert "    shop u-17: cost 12.4 USD, 4.0x the usual" in lines
    assert "since 2026-07-01 10:00:00 UTC" in printed
    assert "over for" in printed
    assert "found late" in " ".join(printed.split())


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (("--open",), {OPEN.id, DRIFT.id}),
        (("--late", "--app", "help"), {OVER[0].id}),
        (("--digest", DIGEST[:8]), {OVER[0].id}),
        (("--open", "--json", "--app", "shop"), {OPEN.id}),
    ],
)
def test_the_list_can_be_narrowed(on_call: OnCall, options: tuple[str, ...], ids: set[str]) -> None:
    printed = on_call.tailrace("alerts", "list", *options)
    assert {i for i in (OPEN.id, OVER[0].id, DRIFT.id) if i in printed} == ids


def test_with_json_it_lists_every_state_as_it_landed(on_call: OnCall) -> None:
    rows = [Alert.from_json(line.encode()) for line in on_call.tailrace("alerts", "list", "--json").splitlines()]
    assert sorted((r.id, r.seq) for r in rows) == sorted((a.id, a.seq) for a in (OPEN, *OVER, DRIFT))


def test_an_alert_is_shown_by_a_prefix_with_all_that_is_known_of_it(on_call: OnCall) -> None:
    printed = on_call.tailrace("alerts", "show", OPEN.id[:8])
    assert max(map(len, printed.splitlines())) <= 80
    flat = " ".join(printed.split())
    for part in (
        "FIRING · critical · shop u-17: cost 12.4 USD, 4.0x the usual",
        OPEN.id,
        "app=shop · user=u-17",
        "observed $2.00, expected $1.00 (×2)",
        "1,200 calls, 1 user, $48.50 an hour",
        "user u-17: 94% of the rise",
        "2. Rate-limit the user",
        f"tailrace call {CALLS[0]}",
        "returns 2 now; observed was 2",
        "SELECT count(*) AS observed FROM raw_calls",
        "0 firing at 2026-07-01 10:01:02 UTC, $2.00",
        "0 delivered to oncall",
    ):
        assert part in flat, part


def test_the_texts_of_a_drift_alert_are_shown_and_its_vector_only_where_asked_for(on_call: OnCall) -> None:
    printed = on_call.tailrace("alerts", "show", DRIFT.id)
    assert TEXT in " ".join(printed.split())
    assert "17,17" not in printed
    assert f"`tailrace alerts show {DRIFT.id[:8]} --sql` prints it" in " ".join(printed.split())
    assert on_call.tailrace("alerts", "show", DRIFT.id, "--sql") == VECTOR + "\n"
    shown = json.loads(on_call.tailrace("alerts", "show", DRIFT.id, "--json"))
    assert shown["cause"][0]["value"] == TEXT
    assert shown["evidence_now"] == [{"observed": 0.5}]


def test_a_digest_names_the_command_that_lists_its_alerts(on_call: OnCall) -> None:
    assert f"tailrace alerts list --digest {DIGEST[:8]}" in on_call.tailrace("alerts", "show", DIGEST[:20])


def test_the_id_of_an_event_that_did_not_fit_says_why_it_is_dead(on_call: OnCall) -> None:
    for given in (DEAD, DEAD[:13].upper()):
        said = on_call.tailrace("call", given, code=2)
        assert said.startswith(f"tailrace: event {DEAD} is dead: type:tokens.input, tokens.input: ")
        assert "`tailrace dead explain 0@2` shows more" in said
        assert "\x1b" not in said


def test_an_ambiguous_beginning_lists_the_candidates_and_an_unknown_one_says_so(on_call: OnCall) -> None:
    printed = on_call.tailrace("call", CALLS[0][:12], code=2)
    assert "0199f3a4-aaa is the beginning of several calls" in printed
    assert all(call in printed for call in CALLS)
    assert "shop" in printed
    printed = on_call.tailrace("alerts", "show", "", code=2)
    assert all(each.id in printed for each in (OPEN, OVER[0], DRIFT))
    assert "no call ffff has landed" in on_call.tailrace("call", "ffff", code=1)
    assert "no call x' OR true; -- has landed" in on_call.tailrace("call", "x' OR true; --", code=1)
    assert "no call  has landed" in on_call.tailrace("call", "", code=1)
    assert "no alert %" in on_call.tailrace("alerts", "show", "%", code=1)


def test_a_call_is_shown_whole_with_the_price_of_each_part(on_call: OnCall) -> None:
    printed = on_call.tailrace("call", CALLS[0][:13])
    assert max(map(len, printed.splitlines())) <= 80
    assert "\x1b" not in printed
    flat = " ".join(printed.split())
    for part in (
        "shop · gpt-4o · ok",
        CALLS[0],
        "feature=chat",
        "latency_ms=812.5",
        "You are helpful.",
        TEXT,
        "It is \ufffd[31mon\ufffd[0m its way.",
        "Soon.",
        "d-1 rank=1 score=0.75 Orders take a day.",
        'track ok=True ms=12 {"order": 4711}',
        "pii: flag stage=input score=0.9",
        "input_tokens=1000 output_tokens=200",
        "600 input tokens at $2.5 a million = $0.0015",
        "400 cache_read tokens at $1.25 a million = $0.0005",
        "200 output tokens at $10 a million = $0.002",
        "$0.004 (computed, price book pb-",
    ):
        assert part in flat, part
    row = json.loads(on_call.tailrace("call", CALLS[0], "--json"))
    assert row["id"] == CALLS[0]
    assert sum(float(p["usd"]) for p in row["price"]) == pytest.approx(float(row["cost_usd"]))


def test_acknowledged_it_is_listed_so_and_notify_keeps_its_updates_back(on_call: OnCall) -> None:
    printed = on_call.tailrace("alerts", "ack", OPEN.id[:8], "--why", "I am on it", "--by", "kim")
    assert printed == f"acknowledged {OPEN.id} as kim: no more updates, only its end\n"
    assert f"{OPEN.id}  FIRING critical acknowledged by kim" in on_call.tailrace("alerts", "list", columns=120)
    assert "acknowledged by kim at " in on_call.tailrace("alerts", "show", OPEN.id)
    found = on_call.decisions()
    update = msgspec.structs.replace(OPEN, seq=1, state="update")
    assert found.reason(update, now_us()) == "acknowledged by kim"
    assert found.reason(msgspec.structs.replace(OPEN, seq=2, state="resolved"), now_us()) == ""
    audit = on_call.tailrace("sql", "SELECT actor, action, object FROM audit", "--format", "json")
    assert json.loads(audit.splitlines()[0]) == {"actor": "kim", "action": "alert.ack", "object": OPEN.id}


def test_a_verdict_lands_once_in_the_audit_and_the_newest_one_counts(on_call: OnCall) -> None:
    assert OVER[0].id in on_call.tailrace("alerts", "list", "--verdict", "none")
    printed = on_call.tailrace("alerts", "verdict", OVER[0].id[:8], "useful", "--by", "kim")
    assert printed == f"verdict on {OVER[0].id} by kim: useful\n"
    printed = on_call.tailrace("alerts", "verdict", OVER[0].id, "noise", "--why", "a load\x1b[31m test", "--by", "lee")
    assert printed == f"verdict on {OVER[0].id} by lee: noise\n"
    assert f"{OVER[0].id}  RESOLVED critical verdict noise" in on_call.tailrace("alerts", "list", columns=120)
    shown = " ".join(on_call.tailrace("alerts", "show", OVER[0].id).split())
    assert "verdict noise, by lee at " in shown
    assert "UTC: a load\ufffd[31m test" in shown
    assert (
        json.loads(on_call.tailrace("alerts", "show", OVER[0].id, "--json").splitlines()[0])["verdict"]["actor"]
        == "lee"
    )
    assert OVER[0].id not in on_call.tailrace("alerts", "list", "--verdict", "none")
    listed = on_call.tailrace("alerts", "list", "--verdict", "noise", "--json")
    assert [json.loads(line)["id"] for line in listed.splitlines()] == [OVER[0].id]
    query = "SELECT actor, object, entry->>'verdict' AS verdict FROM audit WHERE action = 'alert.verdict' ORDER BY 1"
    rows = [json.loads(line) for line in on_call.tailrace("sql", query, "--format", "json").splitlines()]
    assert [(row["actor"], row["object"], row["verdict"]) for row in rows] == [
        ("kim", OVER[0].id, "useful"),
        ("lee", OVER[0].id, "noise"),
    ]
    query = "SELECT rule, app, severity, fired_at, title FROM alert_verdicts WHERE verdict = 'noise'"
    (row,) = map(json.loads, on_call.tailrace("sql", query, "--format", "json").splitlines())
    assert (row["rule"], row["app"], row["severity"]) == ("spike_tokens", "help", "critical")
    assert row["fired_at"].startswith("2026-07-01T10:01:02")
    assert on_call.decisions().reason(OVER[1], now_us()) == "", "it keeps nothing back"


def test_what_is_no_verdict_is_refused(on_call: OnCall) -> None:
    assert "'maybe' is not one of" in on_call.tailrace("alerts", "verdict", OVER[0].id, "maybe", code=2)
    assert "no alert ffff has landed" in on_call.tailrace("alerts", "verdict", "ffff", "noise", code=1)
    assert "--by: it is empty" in on_call.tailrace("alerts", "verdict", OVER[0].id, "noise", "--by", " ", code=2)


def test_a_postmortem_holds_what_is_known_and_no_text_unless_that_is_allowed(on_call: OnCall, tmp_path: Path) -> None:
    on_call.tailrace("alerts", "ack", OPEN.id, "--by", "kim")
    file = tmp_path / "incident.md"
    assert on_call.tailrace("alerts", "postmortem", OPEN.id[:8], "--out", str(file)) == ""
    text = file.read_text()
    for part in (
        "# Postmortem: shop u\\-17: cost 12.4 USD, 4.0x the usual",
        "| series | `app=shop`, `user=u-17` |",
        "| began | 2026-07-01 10:00:00 UTC |",
        "| detected | 2026-07-01 10:01:02 UTC, 62 s after it began |",
        "| over | not yet |",
        "| 2026-07-01 10:00:00 | **it began** (event time) |",
        "delivered to `oncall`",
        "acknowledged by kim",
        "- By the alert: 1,200 calls, 1 user, \\$48.50 an hour.",
        "- In its window the series made 0 calls of 0 users",
        "- user u\\-17: 94% of the rise",
        "1. Look for a loop",
        "The message said 2. It returns 2 now.",
        "```sql\nSELECT count(*) AS observed FROM raw_calls WHERE app = 'shop'\n```",
        f"- `tailrace call {CALLS[0]}`",
    ):
        assert part in text.replace("\\:", ":"), part
    refused = on_call.tailrace("alerts", "postmortem", OPEN.id[:8], "--out", str(file), code=2)
    assert "exists; name a new file, or overwrite it with --force" in refused
    on_call.tailrace("alerts", "postmortem", DRIFT.id, "--out", str(file), "--force")
    assert TEXT.split(":")[0] not in file.read_text()
    assert "17,17" not in file.read_text()
    allowed = on_call.tailrace("alerts", "postmortem", DRIFT.id, TAILRACE_ALERT_TEXTS="true")
    assert TEXT.split(":")[0] in allowed


def test_one_that_is_over_is_acknowledged_as_such(on_call: OnCall) -> None:
    printed = on_call.tailrace("alerts", "ack", OVER[0].id, "--by", "kim")
    assert printed == f"acknowledged {OVER[0].id} as kim: it is over; no update is sent if it comes back\n"


def test_a_silence_is_made_shown_lifted_and_recorded(on_call: OnCall) -> None:
    printed = on_call.tailrace(
        "alerts", "silence", "app=help", "rule=spike_tokens", "--for", "2h", "--why", "load test", "--by", "kim"
    )
    silence = printed.split()[1]
    assert f"tailrace alerts unsilence {silence[:8]}" in printed
    listed = on_call.tailrace("alerts", "silences")
    assert f"{silence}  in force\n    app=help rule=spike_tokens\n    until " in listed
    assert "by kim: load test; 0 states" in " ".join(listed.split())
    assert "1 silence in force: see `tailrace alerts silences`" in on_call.tailrace("alerts", "list")
    now = now_us()
    found = on_call.decisions()
    assert found.reason(OVER[0], now) == f"silence {silence[:8]} of kim: load test"
    assert found.reason(OVER[0], now + DAY) == ""
    assert found.reason(OPEN, now) == ""
    assert on_call.tailrace("alerts", "unsilence", silence[:6], "--by", "lee").startswith(
        f"lifted silence {silence} as lee"
    )
    assert on_call.tailrace("alerts", "silences") == "no silences in force\n"
    (row,) = map(json.loads, on_call.tailrace("alerts", "silences", "--all", "--json").splitlines())
    assert (row["matchers"], row["lifted_by"]) == ({"app": "help", "rule": "spike_tokens"}, "lee")
    assert on_call.decisions().reason(OVER[0], now_us()) == ""


def test_a_silence_may_be_like_an_alert(on_call: OnCall) -> None:
    printed = on_call.tailrace("alerts", "silence", OPEN.id[:8], "--until", "2026-12-24T07:00:00Z")
    assert "rule=spike_cost app=shop user=u-17" in printed
    assert "2026-12-24 07:00:00 UTC" in printed
    on_call.tailrace("alerts", "unsilence", printed.split()[1])


def test_what_cannot_be_a_silence_is_refused_in_one_line(on_call: OnCall) -> None:
    printed = on_call.tailrace("alerts", "silence", "ap=shop", "rule=x", code=2)
    assert printed.startswith("tailrace: matcher 'ap': no alert has it; did you mean app?")
    assert "Traceback" not in printed


def test_a_test_alert_is_tried_on_every_channel_and_no_url_is_shown(on_call: OnCall) -> None:
    two = [{"name": name, "url": f"http://127.0.0.1:9/{name}"} for name in ("hook", "other")]
    settings: dict[str, Any] = {"TAILRACE_ALERT_CHANNELS": json.dumps(two), "TAILRACE_WEBHOOK_ALLOW_HOSTS": "127.0.0.1"}
    printed = on_call.tailrace("alerts", "ping", code=1, out=True, **settings)
    assert printed == "hook: retry cannot connect\nother: retry cannot connect\n"
    assert on_call.tailrace("alerts", "ping", "other", code=1, out=True, **settings) == "other: retry cannot connect\n"
    refused = on_call.tailrace("alerts", "ping", "nobody", code=2, **settings)
    assert "none is called nobody; known are hook, other" in refused
    assert "alert_channels: none is set" in on_call.tailrace("alerts", "ping", code=2)


def test_rules_are_tried_on_history_under_this_name_too(on_call: OnCall) -> None:
    assert on_call.tailrace("alerts", "test", "--from", "2h", "--set", "spike.ratio=5") == ""
    assert "no such field" in on_call.tailrace("alerts", "test", "--set", "spike.nothing=1", code=2)
