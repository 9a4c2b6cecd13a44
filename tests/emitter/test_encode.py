"""Whatever an app says becomes an event the server accepts, and nothing it should not see."""

import json
import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrace_emitter import event as ev
from tailrace_emitter import limits
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.encode import InvalidError, Policy, encode
from tailrace_emitter.fields import FLAT
from tailrace_emitter.ids import new_id

NOW = 1_763_640_366_123_456_000
PLAIN = Policy(app="shop", content="full")


def call(policy: Policy = PLAIN, **fields: Any) -> dict[str, Any]:
    message = encode("call", new_id(), NOW, {"model": "m", **fields}, policy)
    assert len(message.value) < 1_048_576
    msgspec.json.decode(message.value, type=ev.Call)
    decoded: dict[str, Any] = json.loads(message.value)
    return decoded


def test_the_smallest_call_is_small() -> None:
    event = call(latency_ms=812.4, input_tokens=420, output_tokens=97)
    assert {k: event[k] for k in ("v", "type", "app", "model", "latency", "tokens")} == {
        "v": 1,
        "type": "call",
        "app": "shop",
        "model": "m",
        "latency": {"total_ms": 812.4},
        "tokens": {"input": 420, "output": 97},
    }
    assert len(json.dumps(event, separators=(",", ":"))) < 260


def test_time_is_when_the_request_began() -> None:
    assert datetime.fromisoformat(call(latency_ms=1000)["ts"]).timestamp() == pytest.approx(NOW / 1e9 - 1)
    asked = datetime(2026, 11, 21, 7, tzinfo=UTC)
    for ts in (asked, int(asked.timestamp() * 1000), "2026-11-21T07:00:00Z", asked.timestamp()):
        got = call(ts=ts)["ts"]
        assert (got if isinstance(got, int) else datetime.fromisoformat(got).timestamp() * 1000) == 1795244400000
    assert "ts" in call(ts="yesterday")


def test_every_flat_name_reaches_its_field() -> None:
    assert {"input_tokens", "latency_ms", "temperature", "prompt_version", "error_type", "user_id"} <= set(FLAT)
    event = call(temperature=0.5, prompt_version=17, error_type="E", user_id="u", answer_cache="exact", ttft_ms=3)
    assert event["params"] == {"temperature": 0.5}
    assert event["prompt"] == {"version": "17"}
    assert event["error"] == {"type": "E"}
    assert event["user"] == "u"
    assert event["cache"] == {"kind": "exact"}
    assert event["latency"] == {"ttft_ms": 3.0}


def test_conversations_in_any_spelling_become_turns() -> None:
    event = call(
        messages=[
            {"role": "system", "content": "be nice"},
            {"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
        ],
        output="done",
    )
    assert event["content"]["system"] == "be nice"
    assert [(m["role"], m["text"]) for m in event["content"]["input"]] == [
        ("user", "look\n[image]"),
        ("assistant", "[tool f]"),
        ("tool", "42"),
    ]
    assert call(input="hi")["content"]["input"] == [{"role": "user", "text": "hi"}]
    assert call(input="hi", output="ho", system="s")["content"]["chars"] == 5


def test_odd_values_leave_their_field_and_never_take_the_event_along() -> None:
    event = call(
        input_tokens=-1,
        output_tokens=math.nan,
        temperature=math.inf,
        status="weird",
        reasoning_tokens="12",
        cache_read_tokens=True,
        latency_ms=-5,
        tags=["a", None, "b" * 100],
        feature="f" * 300,
        session_id="",
        unknown=1,
        _secret=2,
        guardrails=[{"name": "g", "action": "shrug"}],
    )
    assert "tokens" not in event
    assert "params" not in event
    assert "status" not in event
    assert event["tags"] == ["a", "b" * 64]
    assert event["feature"] == "f" * 256
    assert "session_id" not in event
    assert event["extra"]["unknown"] == 1
    assert event["extra"]["secret"] == 2
    assert event["extra"]["tokens.input"] == -1
    assert event["guardrails"] == [{"name": "g"}]


def test_numbers_of_numpy_and_decimal_are_numbers() -> None:
    event = call(input_tokens=np.int64(3), output_tokens=4.0, latency_ms=np.float32(1.5), cost_reported=Decimal("0.01"))
    assert event["tokens"] == {"input": 3, "output": 4}
    assert event["latency"] == {"total_ms": 1.5}
    assert event["cost_reported"] == 0.01


def test_text_that_json_cannot_carry_is_replaced() -> None:
    assert call(output="a\x00b\ud800c\td\ne")["content"]["output"] == "a\ufffdb\ufffdc\td\ne"


@pytest.mark.row(37)
def test_long_content_is_cut_with_a_marker_and_the_length_is_kept() -> None:
    event = call(output="wörd " * 200_000, input=[{"role": "user", "content": "x" * 300_000}] * 3)
    said = event["content"]
    texts = [said["output"], *(m["text"] for m in said["input"])]
    assert sum(len(t.encode()) for t in texts) <= limits.CONTENT_BYTES
    assert said["truncated"] is True
    assert said["chars"] == 1_900_000
    assert "[cut " in said["output"]


def test_a_secret_at_the_cut_is_not_left_half() -> None:
    key = "sk-" + "a1b2c3d4" * 40
    for offset in range(0, 400, 37):
        text = "word " * ((limits.CONTENT_BYTES + limits.SLACK_BYTES - offset) // 5) + key + " end " * 2000
        assert "a1b2c3d4" not in call(Policy(app="a"), output=text)["content"]["output"]


def test_extra_is_bounded_in_keys_bytes_and_depth() -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = {"d": deep}
    event = call(extra={"deep": deep, **{f"k{i}": "v" for i in range(100)}, "big": "x" * 20_000})
    assert len(event["extra"]) <= 64
    assert len(json.dumps(event["extra"])) < 9_000
    assert len(call(extra={"a": "x" * 7000, "b": "y" * 7000})["extra"]) == 1


def test_errors_are_redacted_and_cut() -> None:
    event = call(Policy(app="a"), error=ValueError("mail bob@example.org " + "x" * 900))
    assert event["status"] == "error"
    assert event["error"]["type"] == "ValueError"
    assert event["error"]["message"].startswith("mail <EMAIL_1> x")
    assert len(event["error"]["message"]) == 500


CANARY = "canary-9f3a bob@example.org"
SAID: dict[str, Any] = {
    "input": [{"role": "system", "content": CANARY}, {"role": "user", "content": CANARY}],
    "output": CANARY,
    "error": ValueError(CANARY),
    "tools": [{"name": "t", "args": CANARY}],
    "retrieval": {"query": CANARY, "docs": [{"text": CANARY}]},
    "prompt": {"name": "p", "variables": {"a": {"b": CANARY}}},
    "outputs": CANARY,  # a misspelt field
    "content": {"input": 5, "outputt": CANARY},
    "tokens": {"input": CANARY},
    "status": CANARY,
}


@pytest.mark.parametrize("mode", ["none", "hashed"])
def test_in_modes_none_and_hashed_no_byte_of_content_is_on_the_wire(mode: str) -> None:
    message = encode("call", new_id(), NOW, {"model": "m", **SAID}, Policy(app="a", content=mode))
    assert b"canary" not in message.value
    for kind, fields in (
        ("feedback", {"call_id": new_id(), "comment": CANARY, "edited": CANARY}),
        ("eval", {"call_id": new_id(), "name": "n", "explanation": CANARY, "error": CANARY}),
    ):
        assert b"canary" not in encode(kind, new_id(), NOW, fields, Policy(app="a", content=mode)).value


@pytest.mark.row(60)
@pytest.mark.parametrize(
    "hook",
    [lambda e: 1 / 0, lambda e: None, lambda e: "junk", lambda e: [e], lambda e: exec("raise SystemExit")],
    ids=["raises", "none", "text", "list", "exits"],
)
def test_a_failing_hook_drops_the_content_and_not_the_event(hook: Any) -> None:
    message = encode(
        "call", new_id(), NOW, {"model": "m", "input_tokens": 3, **SAID, "tokens": None}, Policy("a", redact=hook)
    )
    assert b"canary" not in message.value
    assert message.counts["redaction_failed"] == 1
    assert json.loads(message.value)["tokens"] == {"input": 3}
    assert json.loads(message.value)["content"]["mode"] == "none"


def test_a_hook_changes_content_but_not_identity() -> None:
    def hook(event: dict[str, Any]) -> dict[str, Any]:
        event["content"]["output"] = event["content"]["output"].replace("ACME", "<CUSTOMER>")
        event.update(id="junk", ts=None, v=9, feature=math.nan)
        return event

    event_id = new_id()
    message = encode("call", event_id, NOW, {"model": "m", "output": "ACME called"}, Policy("a", redact=hook))
    event = json.loads(message.value)
    assert event["content"]["output"] == "<CUSTOMER> called"
    assert (event["id"], event["v"]) == (event_id, 1)


def test_content_sampling_by_env_keeps_the_share_and_every_number() -> None:
    policy = Policy(app="a", env="prod", content_sample={"prod": 0.25, "staging": 1.0})
    events = [call(policy, output="hi", input_tokens=1) for _ in range(2000)]
    kept = sum(e["content"]["mode"] == "redacted" for e in events)
    assert 400 < kept < 600
    assert all(e["tokens"] == {"input": 1} for e in events)
    assert call(policy, env="staging", output="hi")["content"]["mode"] == "redacted"


def test_users_are_hashed_where_a_key_is_given() -> None:
    from tailrace_emitter import pseudonym

    assert call(Policy("a", user_key="k"), user="alice")["user"] == pseudonym("alice", "k")
    assert call(user="alice")["user"] == "alice"


def test_the_key_is_the_trace_else_the_session_else_the_id() -> None:
    event_id = new_id()
    said = {"model": "m", "trace_id": "t", "session_id": "s"}
    assert encode("call", event_id, NOW, said, PLAIN).key == "t"
    assert encode("call", event_id, NOW, {"session_id": "s"}, PLAIN).key == "s"
    assert encode("call", event_id, NOW, {}, PLAIN).key == event_id


def test_feedback_and_evals_say_the_obvious() -> None:
    judged = new_id()
    told = json.loads(encode("feedback", new_id(), NOW, {"call_id": judged, "thumbs": False}, PLAIN).value)
    assert (told["kind"], told["score"], told["call_id"]) == ("thumbs", -1.0, judged)
    told = json.loads(encode("eval", new_id(), NOW, {"call_id": judged, "name": "f1", "score": 0.5}, PLAIN).value)
    assert (told["name"], told["score"]) == ("f1", 0.5)
    for kind, fields in (
        ("feedback", {"thumbs": True}),
        ("eval", {"name": "x", "score": 1}),
        ("eval", {"call_id": judged}),
    ):
        with pytest.raises(InvalidError):
            encode(kind, new_id(), NOW, fields, PLAIN)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5)
values = st.recursive(scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=8), x, max_size=3))
names = st.sampled_from(
    [f for f in ev.Call.__struct_fields__ if f not in ("id", "v")] + [*FLAT, "input", "output", "usage", "x"]
)


@given(st.dictionaries(names, values, max_size=8), st.sampled_from(["full", "redacted", "hashed", "none"]))
@settings(max_examples=400, deadline=None)
def test_any_fields_at_all_make_an_event_that_keeps_its_declaration(fields: dict[str, Any], mode: str) -> None:
    message = encode("call", new_id(), NOW, fields, Policy(app="a", content=mode))
    event = msgspec.json.decode(message.value, type=ev.Call)
    assert event.app
    assert event.model
    assert not any(key.startswith("_") for key in json.loads(message.value).get("extra", {}))


def test_a_call_that_may_be_seen_twice_keeps_the_id_that_its_adapter_gives() -> None:
    class Kept(Emitter):
        def _put(self, kind: str, fields: dict[str, Any], lazy: Any = None) -> str:
            fields = lazy(fields) if lazy else fields
            return str(json.loads(self._encode(kind, other, 0, fields, True).value)["id"])

    own, other = new_id(), new_id()
    emitter = Kept("test", sigterm=False)
    emitter._prepare()
    assert emitter.record({"model": "m"}, lambda given: {**given}, event_id=own) == own
    assert emitter.record({"model": "m"}, lambda given: {**given}) == other
