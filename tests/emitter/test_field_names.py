"""Wrong names are recognised, the app's own names are left alone, and each is logged once."""

import json
import logging
from typing import Any

import pytest

from pipelines.decode import Accepted, verdict
from tailrace_emitter import event as ev
from tailrace_emitter import field_names
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.encode import Policy, encode
from tailrace_emitter.field_names import ACCEPTED, MAX_REPORTED, cleaned, is_declared, meant, unknown_fields
from tailrace_emitter.ids import new_id

NOW = 1_763_640_366_123_456_000


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("input_token", "tokens.input"),
        ("ouput_tokens", "tokens.output"),
        ("inputTokens", "tokens.input"),
        ("tokens.inptu", "tokens.input"),
        ("prompt_tokens", "tokens.input"),
        ("gen_ai.usage.input_tokens", "tokens.input"),
        ("gen_ai.usage.cache_creation.input_tokens", "tokens.cache_write"),
        ("llm.token_count.completion", "tokens.output"),
        ("response_cost", "cost_reported"),
        ("completionStartTime", "latency.ttft_ms"),
        ("latency.ms", "latency.total_ms"),
        ("duration_ms", "latency.total_ms"),
        ("sessionId", "session_id"),
        ("llm.is_streaming", "stream"),
        ("usr", "user"),
        ("outputs", "content.output"),
        ("tools.0.arguments", "tools.args"),
        ("retrieval.docs.11.contnt", "retrieval.docs.text"),
    ],
)
def test_a_wrong_name_is_recognised_for_the_field_it_means(name: str, field: str) -> None:
    assert meant("call", name) == field
    assert is_declared("call", field)


@pytest.mark.parametrize(
    "name",
    ["region", "page", "version", "top_k", "user_ip", "order_id", "locale", "x", "", "ä", "a" * 500, "total_tokens"],
)
def test_a_name_of_the_app_is_left_alone(name: str) -> None:
    assert meant("call", name) is None


def test_every_known_name_leads_to_a_field_and_no_field_is_an_alias() -> None:
    from tailrace_emitter import field_names

    for kind, words in field_names._WORDS.items():
        assert all(is_declared(kind, path) for path in words), kind
    for holder, words in field_names._PART_WORDS.items():
        kind = "eval" if holder == "evaluator" else "call"
        assert all(is_declared(kind, f"{holder}.{part}") for part in words), holder
    for kind, struct in (("call", ev.Call), ("feedback", ev.Feedback), ("eval", ev.Eval)):
        assert not set(ACCEPTED[kind]) & set(struct.__struct_fields__)
        assert all(is_declared(kind, path) for path in ACCEPTED[kind].values())


def test_only_the_first_few_names_are_reported_and_a_flood_costs_little() -> None:
    assert list(unknown_fields("call", (f"input_token{c}" for c in "abcdefgh"))) == [f"input_token{c}" for c in "abcd"]
    assert len(unknown_fields("call", ["input_token"])) == 1 <= MAX_REPORTED
    assert unknown_fields("call", [*(f"key number {i}" for i in range(99)), "input_token"]) == {}


def test_a_name_is_shown_without_what_a_terminal_would_obey() -> None:
    assert cleaned("a\x1b[31m\u202eb c") == "a??31m?b?c"
    assert len(cleaned("a" * 500)) == 64


def sent(kind: str = "call", policy: Policy = Policy("a", content="full"), **fields: Any) -> tuple[Any, Accepted]:  # noqa: B008
    message = encode(kind, new_id(), NOW, {"model": "m", **fields} if kind == "call" else fields, policy)
    found = verdict(message.value)
    assert isinstance(found, Accepted)
    return message, found


@pytest.mark.parametrize("mode", ["full", "redacted", "hashed", "none"])
def test_a_typing_error_in_call_reaches_the_server_as_a_flag_in_every_content_mode(mode: str) -> None:
    message, found = sent(policy=Policy("a", content=mode), input_token=8, outputs="secret", region="eu")
    assert found.flags == ("unknown_field:input_token", "unknown_field:outputs")
    extra = json.loads(message.value)["extra"]
    assert extra["input_token"] == 8
    assert ("outputs" in extra) == (mode in ("full", "redacted"))
    assert message.remarks["input_token"] == "unknown field input_token: did you mean tokens.input?"
    assert "region" not in message.remarks
    assert message.counts["unknown_fields"] == 2


def test_flat_names_and_the_names_of_chat_apis_reach_their_fields_in_call() -> None:
    turns = [{"role": "user", "content": "hi"}]
    cases: list[dict[str, Any]] = [
        {"input_text": "hi"},
        {"content": {"messages": turns}},
        {"content.input": turns},
        {"messages": turns},
    ]
    for fields in cases:
        message, found = sent(**{**fields, "tokens.output": 3})
        event = json.loads(message.value)
        assert event["content"]["input"] == [{"role": "user", "text": "hi"}]
        assert event["tokens"] == {"output": 3}
        assert found.flags == ()
    event = json.loads(sent("eval", name="n", score=1, call_id=new_id(), evaluator_kind="llm")[0].value)
    assert event["evaluator"] == {"kind": "llm"}


def test_a_field_given_under_two_names_keeps_its_own_and_is_flagged() -> None:
    message, found = sent(tokens={"input": 5}, input_tokens=8, tenant="a", tenant_id="b")
    event = json.loads(message.value)
    assert (event["tokens"], event["tenant"]) == ({"input": 5}, "a")
    assert found.flags == ("unknown_field:tenant_id", "unknown_field:input_tokens")
    assert "both are given" in message.remarks["input_tokens"]


def test_a_value_out_of_range_is_counted_and_flagged_and_takes_nothing_along() -> None:
    message, found = sent(input_tokens=-3, output_tokens=4, latency_ms="soon")
    event = json.loads(message.value)
    assert event["tokens"] == {"output": 4}
    assert "latency" not in event
    assert message.counts["fields_dropped"] == 2
    assert message.remarks == {
        "tokens.input": "tokens.input: -3 does not fit this field and is left out",
        "latency.total_ms": "latency.total_ms: a value of type str does not fit this field and is left out",
    }
    assert found.flags == ("unknown_field:tokens.input", "unknown_field:latency.total_ms")
    many = sent(tools=[{"name": "t", "ms": -1}] * 9)[1].flags
    assert many == tuple(f"unknown_field:tools.{i}.ms" for i in range(4))


def test_the_emitter_says_once_what_is_wrong_and_stops_after_some_names(caplog: pytest.LogCaptureFixture) -> None:
    emitter = Emitter("a", bootstrap_servers="127.0.0.1:9", sigterm=False)
    sender = emitter._sender
    with caplog.at_level(logging.WARNING, "tailrace_emitter"):
        emitter._prepare()
        for i in range(3):
            message = emitter._encode("call", new_id(), NOW, {"model": "m", "input_token": i, "latency_ms": -1}, True)
            for name, remark in message.remarks.items():
                sender._remark(name, remark)
        logged = [record.getMessage() for record in caplog.records]
        assert logged == [
            "tailrace: unknown field input_token: did you mean tokens.input?",
            "tailrace: latency.total_ms: -1 does not fit this field and is left out",
        ]
        for i in range(100):
            sender._remark(f"name{i}", "x")
    assert len(caplog.records) == 20
    emitter.close(0)


def test_a_name_too_long_for_any_field_is_neither_taken_apart_nor_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pieces would be thousands, and it may be as long as a message: both are a stranger's to choose."""
    remembered = field_names._meant.cache_info().currsize
    assert meant("call", "x" * 1_000_000) is None
    assert field_names._meant.cache_info().currsize == remembered
    taken_apart: list[str] = []

    def pieces(word: str, slips: object) -> set[str]:
        taken_apart.append(word)
        return {word}

    monkeypatch.setattr(field_names, "_pieces", pieces)
    assert meant("call", "q" * 60) is None
    assert taken_apart == []
