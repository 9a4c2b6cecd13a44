"""Dead letters on the real broker and a real lake: listed, repaired, sent again, counted once."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_harness.zygote import run_command

from pipelines.clock import now_us
from pipelines.kafka import Admin, KafkaConfig, Producer
from pipelines.land import LandConfig, run
from schemas.topics import EVENTS, TOPICS
from tailrace.cli.dead import _value
from tailrace.events import dead
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[3]
CARD = "4111 1111 1111 1111"


def event(number, **changes):
    base = {
        "v": 1,
        "type": "call",
        "id": f"0199f3a4-0000-7000-8000-{number:012d}",
        "ts": now_us() // 1000,
        "app": "shop",
        "model": "gpt-4o",
        "tokens": {"input": 5, "output": 2},
    }
    return json.dumps(base | changes).encode()


class Place:
    """Topics and a lake of its own, with what a deploy of a bad producer left in them."""

    def __init__(self, bootstrap, prefix, home):
        self.home = home
        self.kafka = KafkaConfig(bootstrap, prefix)
        Admin(self.kafka).create_topics(TOPICS, partitions=1)
        self.lake = LakeConfig(str(home / "lake" / "catalog.sqlite"), str(home / "lake" / "data"))

    def send(self, *values):
        producer = Producer(self.kafka)
        for value in values:
            producer.send(EVENTS, value, key=b"trace-7")
        producer.flush(15)
        producer.close()

    @contextmanager
    def landing(self):
        Lake.open(self.lake, now=now_us).close()  # made before anybody asks
        stop, facts, failed = threading.Event(), {}, []

        def body():
            try:
                # half of what this test sends is bad on purpose
                config = LandConfig(self.kafka, self.lake, batch_wait_s=0.1, dead_ratio_limit=1.0)
                run(config, stop=stop, heartbeat=lambda report: facts.update(report.flat()))
            except BaseException as error:
                failed.append(error)
                raise

        thread = threading.Thread(target=body)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(30)
            assert not failed

    def query(self, sql):
        with Lake.open(self.lake, now=now_us, lander=False) as lake:
            return lake.query(sql).to_pylist()

    def wait(self, sql, expected):
        deadline = time.monotonic() + 60
        while (found := self.query(sql)) != expected:
            assert time.monotonic() < deadline, f"{found} instead of {expected}"
            time.sleep(0.3)

    def tailrace(self, *arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") or k == "TAILRACE_CACHE"}
        environment |= {
            "TAILRACE_HOME": str(self.home),
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TAILRACE_KAFKA__PREFIX": self.kafka.prefix,
        }
        return run_command(arguments, env=environment)


@pytest.fixture
def place(broker, prefix, tmp_path):
    return Place(broker.bootstrap, prefix, tmp_path)


ROWS = "SELECT count(*) AS n FROM raw_calls"


def test_dead_letters_are_explained_repaired_and_replayed_once(place):
    place.send(
        event(1),
        event(2, tokens={"input": "5", "output": 2}, feature=f"card {CARD}"),  # repaired by itself
        b"{not json " + CARD.encode(),  # nobody can mend it
        event(3, app=None, application="shop"),  # repaired by a person
        event(4, status="OK"),
    )
    with place.landing():
        place.wait(
            "SELECT (SELECT count(*) FROM raw_calls) AS good, (SELECT count(*) FROM dead) AS bad",
            [{"good": 1, "bad": 4}],
        )

        told = place.tailrace("dead", "explain", f"{EVENTS}[0]@1", "--json")
        facts = json.loads(told.stdout)
        assert facts["reason"] == "type:tokens.input"
        assert facts["place"].startswith("tokens.input, line 1, column ")
        assert facts["found"] == '"5"'
        assert "dead repair" in facts["repair"]

        repaired_file = place.home / "repaired.jsonl"
        repaired = place.tailrace(
            "dead", "repair", "--out", str(repaired_file), "--drop", "app", "--rename", "application=app"
        )
        # the edit fits one of the four; on the others it takes the app away, and they stay dead
        assert "1 repaired, 3 still dead" in repaired.stderr, repaired.stderr
        assert CARD not in repaired.stderr + told.stdout, "what people see is redacted"
        assert repaired_file.stat().st_mode & 0o077 == 0
        assert json.loads(repaired_file.read_text())["app"] == "shop"
        again = place.tailrace("dead", "repair", "--out", str(repaired_file))
        assert again.returncode == 2
        assert "exists" in again.stderr

        sent = place.tailrace("dead", "replay", str(repaired_file))
        assert "1 sent again, 0 skipped" in sent.stdout, sent.stderr
        place.wait(ROWS, [{"n": 2}])
        twice = place.tailrace("dead", "replay", str(repaired_file), "--json")
        assert json.loads(twice.stdout) == {
            "sent": [],
            "dry_run": False,
            "skipped": [["line 1", "landed already: its id stands in the lake"]],
        }
        place.wait("SELECT action, object FROM audit", [{"action": "dead.replay", "object": EVENTS}])
    assert place.query("SELECT app, _dup FROM raw_calls WHERE id = '0199f3a4-0000-7000-8000-000000000003'") == [
        {"app": "shop", "_dup": False}
    ], "the dead record did not use its id up"
    assert verify(place.lake).ok


@pytest.mark.extended
def test_originals_that_are_fit_by_now_go_back_and_the_rest_is_told(place, monkeypatch):
    place.send(event(1, v="1"), event(2, v="1"), event(3, tokens={"input": -1}), event(2, v="1"))
    with place.landing():
        place.wait("SELECT count(*) AS n FROM dead", [{"n": 4}])
        with Lake.open(place.lake, now=now_us, lander=False) as lake:

            def replay(**how):
                found = dead.letters(lake, dead.Choice())
                return dead.replay(
                    lake,
                    place.kafka,
                    how.pop("of", dead.from_letters(found)),
                    actor="me",
                    source="t",
                    now=now_us(),
                    **how,
                )

            nothing = replay()
            assert nothing.ids == []
            assert nothing.reasons == {"still dead": 4}
            # an upgrade: the next version takes what this one refused
            as_sent = {letter.offset: letter for letter in dead.letters(lake, dead.Choice(reason="type"))}
            assert sorted(as_sent) == [0, 1, 3]
            fit = [dead.Candidate(x.position, x.value.replace(b'"v": "1"', b'"v": 1'), x.key) for x in as_sent.values()]
            assert len(replay(of=fit, dry_run=True).ids) == 2
            done = replay(of=fit)
            assert len(done.ids) == 2
            assert done.reasons == {"same id": 1}
        place.wait(ROWS, [{"n": 2}])
        # twice after all, past the check: land marks the second
        place.send(*(c.value for c in fit))
        place.wait("SELECT count(*) AS n FROM raw_calls WHERE _dup", [{"n": 3}])
        assert place.query("SELECT count(*) AS n FROM calls") == [{"n": 2}]
        place.wait(
            "SELECT \"row\"->>'actor' AS actor, \"row\"->>'count' AS n FROM log_records", [{"actor": "me", "n": "2"}]
        )
    assert verify(place.lake).ok


def test_a_missing_lake_is_not_made_by_looking_for_dead_letters(place):
    looked = place.tailrace("dead", "explain", "0@5")
    assert looked.returncode == 2
    assert "no lake" in looked.stderr
    assert not (place.home / "lake" / "catalog.sqlite").exists()


def test_positions_are_read_or_refused():
    assert dead.position("llm.events[3]@1807") == dead.Choice(topic=EVENTS, partition=3, offset=1807)
    assert dead.position("3@1807") == dead.position("3:1807") == dead.position("llm.events[3]@1807")
    for wrong in ("", "3", "a@b", "3@-1", "llm.events[3]", "'; DROP TABLE dead"):
        with pytest.raises(dead.NotAPositionError):
            dead.position(wrong)


def test_a_value_to_set_that_is_no_json_is_text_however_deep():
    for text in ("shop", "[" * 100_000, "1" * 5000):
        assert _value(text) == text
