"""Canaries in every secret and in unmarked texts, through a real ``tailrace up``; every byte it left is searched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from base64 import b64encode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.kafka import KafkaConfig, Producer
from schemas.alerts import Cause, Evidence
from schemas.topics import ALERTS, EVENTS
from tailrace.home.layout import Home
from tests.tailrace.alerts import alert
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

REPO = Path(__file__).parents[2]
SECRETS = {
    "sasl": "canary-sasl-5f1e77c0",
    "webhook": "whsec_" + b64encode(b"canary-webhook-secret-0001").decode(),
    "slack": "T0CANARY/B0CANARY/canaryslacktoken00001",
    "hook": "canary-hook-path-8841",
    "user key": "canary-user-key-22aa91",
    "token": "canary-web-token-7719ff",
    "deadman": "canary-deadman-path-31c2",
}
PII = {
    "mail": "canary.person@example-mail.org",
    "card": "4111111111111111",
    "key": "sk-proj-canaryAbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
}


CONTENT = "violet giraffe, the canary of all content, 90210x"
"""In every text of every event and in a drift alert; no secret and no personal datum, so nothing redacts it."""
DRIFT = alert(
    {"app": "canary", "side": "input"},
    detector="drift",
    rule="input_drift",
    title="canary: inputs drifted, 57% are like the texts of one topic, expected 0%",
    cause=(Cause("topic", CONTENT, 0.9, f"grew from 0% to 57%: e.g. “{CONTENT}”"),),
    evidence=Evidence(f"SELECT 0.5 AS observed WHERE len([{', '.join(['17'] * 384)}]) > 0", ()),
)


class _Door(BaseHTTPRequestHandler):
    """A receiver that keeps what it gets."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.got.append((self.path, body, str(self.headers).encode()))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format, *args):
        """Nothing on stderr."""


@contextmanager
def receiving():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Door) as server:
        server.got = []
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def settings(broker, prefix, home, door):
    client = {"security.protocol": "plaintext", "sasl.username": "u", "sasl.password": SECRETS["sasl"]}
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") or k == "TAILRACE_CACHE"},
        "TAILRACE_HOME": str(home),
        "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap,
        "TAILRACE_KAFKA__PREFIX": prefix,
        "TAILRACE_KAFKA__PARTITIONS": "1",
        "TAILRACE_KAFKA__CLIENT": json.dumps(client),
        # nobody listens on either: what a failed delivery says is what is searched
        "TAILRACE_ALERT_CHANNELS": json.dumps(
            [
                f"http://127.0.0.1:9/{SECRETS['hook']}",
                {"kind": "slack", "url": f"http://127.0.0.1:9/{SECRETS['slack']}"},
                {"name": "door-hook", "url": f"http://127.0.0.1:{door}/hook"},
                {"name": "door-slack", "kind": "slack", "url": f"http://127.0.0.1:{door}/slack"},
            ]
        ),
        "TAILRACE_WEBHOOK_ALLOW_HOSTS": "127.0.0.1",
        "TAILRACE_WEBHOOK_SECRET": SECRETS["webhook"],
        "TAILRACE_USER_KEY": SECRETS["user key"],
        "TAILRACE_WEB__TOKEN": SECRETS["token"],
        "TAILRACE_DEADMAN_URL": f"http://127.0.0.1:9/{SECRETS['deadman']}",
    }


def event(**more):
    base = {"v": 1, "type": "call", "id": str(uuid.uuid4()), "ts": time.time_ns() // 1_000_000, "app": "canary"}
    return json.dumps(base | {"model": "gpt-4o"} | more).encode()


def texts(said):
    """Unmarked content in every place that takes some."""
    return {
        "content": {"system": said, "input": [{"role": "user", "text": said}], "output": said},
        "error": {"type": "x", "message": said},
        "prompt": {"variables": {"name": said, "deep": {"list": [said]}}},
        "tools": [{"name": "t", "args": json.dumps({"to": said})}],
        "retrieval": {"query": said, "docs": [{"id": "d", "text": said}]},
        "extra": {"note": said},
    }


class Left:
    """What the run left behind."""

    def __init__(self, home, printed, dead, posted):
        self.home = home
        self.printed = printed
        """name -> what a command or an endpoint said."""
        self.dead = dead
        self.posted = posted
        """(path, body, headers) of what channels were sent."""


@pytest.fixture(scope="module")
def left(broker, tmp_path_factory):
    with receiving() as door:
        yield _left(broker, tmp_path_factory, door)


def _left(broker, tmp_path_factory, door):
    home, prefix = tmp_path_factory.mktemp("canaries"), f"c-{uuid.uuid4().hex[:8]}."
    environment = settings(broker, prefix, home, door.server_address[1])

    def tailrace(*arguments):
        command = [sys.executable, "-m", "tailrace", *arguments]
        done = subprocess.run(
            command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        return done.stdout + done.stderr

    with (home / "up.out").open("wb") as out:
        up = subprocess.Popen(
            [sys.executable, "-m", "tailrace", "up"], cwd=REPO, env=environment, stdout=out, stderr=out
        )
    printed = {}
    try:
        wait("every stage has spoken", lambda: all(Home(home).read_run(n) for n in ("up", "land", "notify", "meter")))
        said = f"I am {PII['mail']}, my card is {PII['card']} and my key {PII['key']}. {CONTENT}"
        producer = Producer(KafkaConfig(broker.bootstrap, prefix))
        for _ in range(3):
            producer.send(EVENTS, event(**texts(said)))
        producer.send(EVENTS, event(v="1", **texts(said)))
        producer.send(EVENTS, event(app=f"{PII['mail']}", v="1"))
        producer.send(EVENTS, f"not json: {said}".encode())
        producer.send(EVENTS, event(user={PII["mail"]: said}))
        call = str(uuid.uuid4())
        words = {"type": "feedback", "kind": "comment", "comment": said, "edited": said, "call_id": call}
        producer.send(EVENTS, event(**words))
        producer.send(EVENTS, event(type="eval", name="judge", score=0.5, explanation=said, error=said, call_id=call))
        producer.send(ALERTS, alert({"app": "canary"}, title="Cost of canary rose").to_json())
        producer.send(ALERTS, DRIFT.to_json())
        producer.flush(30)
        producer.close()
        config = LakeConfig(str(Home(home).catalog), str(Home(home).data_path))

        def landed():
            if not Home(home).catalog.exists():
                return False
            with Lake.open(config, now=lambda: time.time_ns() // 1000, lander=False) as lake:
                found = lake.query("SELECT (SELECT count(*) FROM raw_calls), (SELECT count(*) FROM dead)").to_pylist()[
                    0
                ]
                return tuple(found.values()) == (3, 4) and lake.query("FROM alerts").num_rows >= 2

        wait("all has landed", landed)
        wait("both doors were sent both alerts", lambda: len(door.got) >= 4)
        wait("a delivery failed", lambda: ((Home(home).read_run("notify") or {}).get("facts") or {}).get("retrying"))
        url = wait("metrics", lambda: (Home(home).read_run("up") or {}).get("web"))
        asked = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {SECRETS['token']}"})
        printed["metrics"] = urllib.request.urlopen(asked, timeout=20).read().decode()
        printed["settings"] = tailrace("settings")
        printed["status"] = tailrace("status", "--json")
        printed["alerts list"] = tailrace("alerts", "list")
        printed["alerts show"] = tailrace("alerts", "show", DRIFT.id)
        printed["dead list"] = tailrace("dead", "list", "--json")
        with ReadOnlyLake.open(config) as lake:
            dead = lake.query("FROM dead").to_pylist()
    finally:
        up.send_signal(signal.SIGTERM)
        try:
            up.wait(30)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
    return Left(home, printed, dead, list(door.got))


def wait(what, found, within_s=180):
    deadline = time.monotonic() + within_s
    while not (value := found()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.5)
    return value


def files(left, *, parquet):
    found = [p for p in left.home.rglob("*") if p.is_file() and (p.suffix == ".parquet") is parquet]
    assert found
    return found


def values(file):
    """Every value of a Parquet file as text, and its raw bytes: statistics stand there uncompressed."""
    table = pq.read_table(file, partitioning=None)
    return json.dumps(table.to_pylist(), default=repr).encode(), file.read_bytes()


@pytest.mark.required
def test_no_secret_is_in_any_file_log_heartbeat_or_answer(left):
    told = {str(p.relative_to(left.home)): p.read_bytes() for p in files(left, parquet=False)}
    told |= {name: text.encode() for name, text in left.printed.items()}
    assert {"up.out", "logs/land.log", "logs/notify.log", "run/notify.json", "settings"} <= told.keys()
    assert b"***" in told["settings"]
    assert str(left.home).encode() in told["settings"], "what is no secret is shown"
    assert b"tailrace_stage_up" in told["metrics"]
    for name, content in told.items():
        for which, secret in SECRETS.items():
            assert secret.encode() not in content, f"the secret {which} stands in {name}"
    for file in files(left, parquet=True):
        for content in values(file):
            for which, secret in SECRETS.items():
                assert secret.encode() not in content, f"the secret {which} stands in {file.name}"


@pytest.mark.required
def test_no_unmarked_personal_text_is_in_any_byte_of_the_lake_but_the_originals_of_the_dead(left):
    searched = originals = 0
    for file in files(left, parquet=True):
        found = any(canary.encode() in content for content in values(file) for canary in PII.values())
        if "dead_bytes" in str(file.relative_to(left.home)):
            originals += found
        else:
            searched += 1
            assert not found, f"{file.relative_to(left.home)} holds a canary"
    assert searched >= 3
    assert originals >= 1, "the original of a dead letter is kept for its seven days"


@pytest.mark.required
def test_nor_in_the_catalog_the_logs_or_what_people_are_shown(left):
    for file in files(left, parquet=False):
        content = file.read_bytes()
        for which, canary in PII.items():
            # the catalog keeps statistics of binary columns as hex
            assert canary.encode().hex().upper().encode() not in content.upper(), f"{which} in hex in {file.name}"
            assert canary.encode() not in content, f"{which} stands in {file.relative_to(left.home)}"
    for name, text in left.printed.items():
        for which, canary in PII.items():
            assert canary not in text, f"{which} stands in what {name} says"


LOCAL = {"alerts show", "dead list"}
"""Commands of the local user that show texts of the lake: that is what they are for."""


@pytest.mark.required
def test_no_text_of_a_prompt_leaves_by_any_door_but_the_lake_and_commands_that_show_it(left):
    doors = {str(p.relative_to(left.home)): p.read_bytes() for p in files(left, parquet=False)}
    # the catalog keeps the least and the greatest value of every column: it is a part of the lake
    doors = {name: content for name, content in doors.items() if not name.startswith("lake/")}
    doors |= {name: text.encode() for name, text in left.printed.items() if name not in LOCAL}
    assert {"up.out", "logs/land.log", "logs/notify.log", "run/notify.json", "metrics", "status", "alerts list"} <= set(
        doors
    )
    assert {path for path, _, _ in left.posted} == {"/hook", "/slack"}
    doors |= {f"{path} {n}": body + headers for n, (path, body, headers) in enumerate(left.posted)}
    for name, content in doors.items():
        assert b"violet giraffe" not in content, f"a text of a prompt stands in {name}"
        assert b"17, 17, 17" not in content, f"a vector stands in {name}"
    drift = [body for _, body, _ in left.posted if DRIFT.id.encode() in body]
    assert len(drift) == 2
    assert all(b"tailrace alerts show " + DRIFT.id[:8].encode() in body for body in drift), "where the text is shown"
    assert "violet giraffe" in left.printed["alerts show"]
    assert "17, 17, 17" not in left.printed["alerts show"]


def test_nothing_that_up_wrote_is_for_anybody_but_its_owner(left):
    written = [p for p in left.home.rglob("*") if p.name != "up.out"]  # that one is the test's own
    assert {"lake", "catalog.sqlite", "logs", "run"} <= {p.name for p in written}
    assert [f"{p.relative_to(left.home)} {p.stat().st_mode:o}" for p in written if p.stat().st_mode & 0o077] == []


def test_heads_and_details_of_the_dead_are_redacted(left):
    assert len(left.dead) == 4
    said = json.dumps(left.dead, default=str)
    assert not any(canary in said for canary in PII.values())
    assert any("<EMAIL_1>" in row["head"] for row in left.dead)


@pytest.mark.representatives(1)
@pytest.mark.parametrize(
    "catalog",
    [
        "postgres:host=127.0.0.1 port=9 dbname=lake user=u password={} connect_timeout=2",
        "postgres:host=127.0.0.1 port=9 dbname=lake user=u password='{} x' connect_timeout=2",
        "postgres://u:{}@127.0.0.1:9/lake?connect_timeout=2",
    ],
)
def test_the_password_of_a_catalog_is_in_no_answer_and_no_log(tmp_path, catalog):
    canary = "canary-catalog-9c1d"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") or k == "TAILRACE_CACHE"}
    environment |= {
        "TAILRACE_HOME": str(tmp_path),
        "TAILRACE_LAKE__CATALOG": catalog.format(canary),
        "TAILRACE_LAKE__DATA_PATH": str(tmp_path / "data"),
    }
    commands = (["verify"], ["sql", "FROM calls"], ["job", "run", "maintain"], ["status", "--json"], ["settings"])
    printed = {}
    for words in commands:
        command = [sys.executable, "-m", "tailrace", *words]
        done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=100)
        printed[" ".join(words)] = done.stdout + done.stderr
    assert "127.0.0.1" in printed["verify"], "it was not even tried"
    assert [name for name, text in printed.items() if canary in text] == []
    assert [path for path in tmp_path.rglob("*") if path.is_file() and canary in path.read_text()] == []
