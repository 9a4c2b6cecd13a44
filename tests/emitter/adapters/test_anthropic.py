"""The Anthropic adapter with the real SDK, against what the API really answered."""

import asyncio
import gc
import json
from typing import Any

import anthropic
import pytest

from tailrace_emitter import context
from tailrace_emitter.anthropic import Anthropic, AsyncAnthropic

HOST = "http://api.anthropic.com"
KNOWN = ("model", "messages", "max_tokens", "stream")
BETA = ("container", "mcp_servers", "context_management")
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated and will reach end-of-life:DeprecationWarning")


@pytest.fixture(scope="module")
def messages(exchanges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in exchanges if e["provider"] == "anthropic" and e["endpoint"] == "/v1/messages"]


def clients(recorder: Any, base_url: str = HOST) -> tuple[Any, Any]:
    shared: dict[str, Any] = {"api_key": "k", "base_url": base_url, "max_retries": 0}
    return anthropic.Anthropic(**shared), Anthropic(**shared, tailrace=recorder)


def request(exchange: dict[str, Any]) -> dict[str, Any]:
    """The recorded body as arguments of the SDK's method; what it may not know goes into ``extra_body``."""
    body = dict(exchange["request_body"])
    known = {name: body.pop(name) for name in KNOWN if name in body}
    return {**known, "extra_body": body}


def resource(client: Any, exchange: dict[str, Any]) -> Any:
    return client.beta.messages if any(k in exchange["request_body"] for k in BETA) else client.messages


def answered(exchange: dict[str, Any], plain: Any) -> dict[str, Any]:
    """The recorded message; that of a stream is put together by the SDK itself."""
    if exchange["response_kind"] == "json":
        body: dict[str, Any] = exchange["response_body"]
        return body
    asked = request(exchange)
    del asked["stream"]
    with resource(plain, exchange).stream(**asked) as stream:
        whole: dict[str, Any] = stream.get_final_message().model_dump(warnings=False)
    return whole


def expected_tokens(usage: dict[str, Any]) -> dict[str, int]:
    read, wrote = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    tokens = {
        "input": usage["input_tokens"] + (read or 0) + (wrote or 0),
        "output": usage["output_tokens"],
        "cache_read": read,
        "cache_write": wrote,
        "cache_write_1h": (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens"),
        "reasoning": (usage.get("output_tokens_details") or {}).get("thinking_tokens"),
    }
    return {name: count for name, count in tokens.items() if count is not None}


def check(event: dict[str, Any], exchange: dict[str, Any], whole: dict[str, Any]) -> None:
    assert event["model"] == exchange["request_body"]["model"]
    assert event["response_model"] == whole["model"]
    assert (event["provider"], event["host"]) == ("anthropic", "api.anthropic.com")
    assert event["response_id"] == whole["id"]
    assert event.get("finish_reason") == whole["stop_reason"]
    assert event.get("service_tier") == whole["usage"].get("service_tier")
    assert event["tokens"] == expected_tokens(whole["usage"])
    assert event["usage_reported"] is True
    searches = (whole["usage"].get("server_tool_use") or {}).get("web_search_requests")
    units = [u["quantity"] for u in event.get("units", ()) if u["unit"] == "web_searches"]
    assert units == ([searches] if searches else [])
    text = "".join(b["text"] for b in whole["content"] if b["type"] == "text")
    assert event["content"].get("output", "").replace("\n\n", "") == text.replace("\n\n", "")
    asked = [b for b in whole["content"] if b["type"] in ("tool_use", "server_tool_use", "mcp_tool_use")]
    tools = [(t["name"], t["id"], json.loads(t["args"] or "{}")) for t in event.get("tools", ())]
    assert tools == [(b["name"], b["id"], b["input"]) for b in asked]
    assert "status" not in event


def test_every_recorded_message_is_read_as_it_was_answered(messages: Any, proxied: Any, recorder: Any) -> None:
    plain, client = clients(recorder)
    good = [e for e in messages if e["status"] == 200]
    assert len(good) == 361
    for exchange in good:
        proxied.answers = [exchange]
        answer = resource(client, exchange).create(**request(exchange))
        if exchange["response_kind"] == "sse":
            assert len(list(answer)) > 3
        check(recorder.events[-1], exchange, answered(exchange, plain))
        assert recorder.events[-1].get("stream", False) is (exchange["response_kind"] == "sse")
    assert len(recorder.events) == len(good)
    plain.close()
    client.close()


def test_answers_and_events_are_the_sdks_own(messages: Any, proxied: Any, recorder: Any) -> None:
    plain, client = clients(recorder)
    for kind in ("json", "sse"):
        for exchange in [e for e in messages if e["response_kind"] == kind and e["status"] == 200][::12]:
            proxied.answers = [exchange]
            one, other = (resource(c, exchange).create(**request(exchange)) for c in (plain, client))
            assert type(one) is type(other)
            if kind == "sse":
                one, other = list(one), list(other)
            assert one == other
    plain.close()
    client.close()


def test_errors_reach_the_app_unchanged_and_are_recorded(messages: Any, proxied: Any, recorder: Any) -> None:
    plain, client = clients(recorder)
    failed = [e for e in messages if e["status"] != 200]
    assert [e["status"] for e in failed] == [404, 400]
    for exchange in failed:
        proxied.answers = [exchange]
        errors = []
        for one in (plain, client):
            with pytest.raises(anthropic.APIStatusError) as caught:
                one.messages.create(**request(exchange))
            errors.append(caught.value)
        assert (type(errors[0]), str(errors[0])) == (type(errors[1]), str(errors[1]))
        event = recorder.events[-1]
        assert event["status"] == "error"
        assert event["error"]["type"] == type(errors[0]).__name__
        assert event["error"]["code"] == exchange["response_body"]["error"]["type"]
        assert exchange["response_body"]["error"]["message"].split("'")[0] in event["error"]["message"]
        assert "tokens" not in event
        assert event["usage_reported"] is False
    plain.close()
    client.close()


def test_counting_tokens_is_no_call(exchanges: Any, proxied: Any, recorder: Any) -> None:
    _, client = clients(recorder)
    counted = [e for e in exchanges if e["endpoint"] == "/v1/messages/count_tokens" and e["status"] == 200]
    assert len(counted) == 6
    for exchange in counted:
        proxied.answers = [exchange]
        body = dict(exchange["request_body"])
        known = {name: body.pop(name) for name in ("model", "messages")}
        assert client.messages.count_tokens(**known, extra_body=body).input_tokens > 0
    assert recorder.events == []
    client.close()


@pytest.fixture
def streamed(messages: Any) -> dict[str, Any]:
    """A stream of text with thinking and a tool of the server."""
    found: dict[str, Any] = next(
        e for e in messages if e["response_kind"] == "sse" and "web_search_tool_result" in e["response_body"]
    )
    return found


def test_the_stream_helper_and_both_raw_forms_are_recorded(streamed: Any, proxied: Any, recorder: Any) -> None:
    plain, client = clients(recorder)
    proxied.answers = [streamed]
    whole = answered(streamed, plain)
    asked = request(streamed)
    raw = client.messages.with_raw_response.create(**asked)
    assert len(list(raw.parse())) > 3
    check(recorder.events[-1], streamed, whole)
    with client.messages.with_streaming_response.create(**asked) as response:
        assert b"message_stop" in b"".join(response.iter_bytes())
    check(recorder.events[-1], streamed, whole)
    with client.messages.with_streaming_response.create(**asked) as response:
        assert len(list(response.parse())) > 3
    check(recorder.events[-1], streamed, whole)
    del asked["stream"]
    with client.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream)
        assert stream.get_final_message().id == whole["id"]
    check(recorder.events[-1], streamed, whole)
    assert len(recorder.events) == 4
    assert all(0 < e["latency"]["ttft_ms"] <= e["latency"]["total_ms"] for e in recorder.events)
    plain.close()
    client.close()


def test_a_raw_answer_is_recorded(messages: Any, proxied: Any, recorder: Any) -> None:
    _, client = clients(recorder)
    proxied.answers = [messages[0]]
    raw = client.messages.with_raw_response.create(**request(messages[0]))
    assert raw.parse().id == messages[0]["response_body"]["id"]
    check(recorder.events[-1], messages[0], messages[0]["response_body"])
    with client.messages.with_streaming_response.create(**request(messages[0])) as response:
        assert response.json()["id"] == messages[0]["response_body"]["id"]
    check(recorder.events[-1], messages[0], messages[0]["response_body"])
    client.close()


@pytest.mark.parametrize("way", ["close", "block", "drop", "helper"])
def test_an_aborted_stream_is_cancelled_and_its_output_is_unknown(
    way: str, streamed: Any, proxied: Any, recorder: Any
) -> None:
    _, client = clients(recorder)
    proxied.answers = [streamed]
    asked = request(streamed)
    if way == "helper":
        del asked["stream"]
        with client.messages.stream(**asked) as helper:
            next(iter(helper))
    elif way == "block":
        with client.messages.create(**asked) as stream:
            next(iter(stream))
    else:
        stream = client.messages.create(**asked)
        next(stream)
        if way == "close":
            stream.close()
            assert recorder.events
        gc.disable()  # freed at once: nothing here refers to itself
        del stream
        gc.enable()
    (event,) = recorder.events
    assert event["status"] == "cancelled"
    assert event["usage_reported"] is False
    assert "output" not in event["tokens"]
    assert event["tokens"]["input"] > 0
    client.close()


def test_a_stream_left_after_its_last_event_is_whole(streamed: Any, proxied: Any, recorder: Any) -> None:
    plain, client = clients(recorder)
    proxied.answers = [streamed]
    with client.messages.create(**request(streamed)) as stream:
        for event in stream:
            if event.type == "message_stop":
                break
    check(recorder.events[-1], streamed, answered(streamed, plain))
    plain.close()
    client.close()


def test_an_error_inside_a_stream_is_recorded_with_its_type(streamed: Any, proxied: Any, recorder: Any) -> None:
    _, client = clients(recorder)
    told = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    begin = streamed["response_body"].partition("event: content_block_start")[0]
    proxied.answers = [{**streamed, "response_body": f"{begin}event: error\ndata: {json.dumps(told)}\n\n"}]
    with pytest.raises(anthropic.APIStatusError):
        list(client.messages.create(**request(streamed)))
    with (
        client.messages.with_streaming_response.create(**request(streamed)) as response,
        pytest.raises(anthropic.APIStatusError),
    ):
        list(response.parse())
    assert [(e["status"], e["error"]["code"]) for e in recorder.events] == [("error", "overloaded_error")] * 2
    client.close()


def test_retries_inside_a_call_are_counted(messages: Any, proxied: Any, recorder: Any) -> None:
    busy = {"status": 529, "response_kind": "json", "response_body": {"error": {"type": "overloaded_error"}}}
    proxied.answers = [busy, messages[0]]
    with Anthropic(api_key="k", base_url=HOST, max_retries=2, tailrace=recorder) as client:
        client.messages.create(**request(messages[0]))
    assert [e["retries"] for e in recorder.events] == [1]


def test_the_asynchronous_client_records_the_same(messages: Any, streamed: Any, proxied: Any, recorder: Any) -> None:
    plain, _ = clients(recorder)
    whole = answered_once(streamed, plain, proxied)

    async def ask() -> None:
        async with AsyncAnthropic(api_key="k", base_url=HOST, max_retries=0, tailrace=recorder) as client:
            proxied.answers = [messages[0]]
            await client.messages.create(**request(messages[0]))
            proxied.answers = [streamed]
            with context(user="asks"):
                stream = await client.messages.create(**request(streamed))
            with context(user="reads"):
                assert len([e async for e in stream]) > 3
            asked = request(streamed)
            async with client.messages.with_streaming_response.create(**asked) as response:
                assert len([e async for e in await response.parse()]) > 3
            del asked["stream"]
            async with client.messages.stream(**asked) as helper:
                await helper.get_final_message()
            async with client.messages.stream(**asked) as helper:
                await helper.__anext__()

    asyncio.run(ask())
    gc.collect()
    check(recorder.events[0], messages[0], messages[0]["response_body"])
    for event in recorder.events[1:4]:
        check(event, streamed, whole)
    assert recorder.events[1]["user"] == "asks"
    assert recorder.events[4]["status"] == "cancelled"
    assert len(recorder.events) == 5
    plain.close()


def answered_once(exchange: dict[str, Any], plain: Any, provider: Any) -> dict[str, Any]:
    provider.answers = [exchange]
    return answered(exchange, plain)


def batch_answers() -> list[dict[str, Any]]:
    """What the API answers for one batch: as in "Batch processing" of its documentation."""
    times = {"created_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-02T00:00:00Z"}
    counts = {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 1, "expired": 1}
    batch = {
        "id": "msgbatch_1",
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": counts,
        **times,
    }
    batch["results_url"] = f"{HOST}/v1/messages/batches/msgbatch_1/results"
    usage = {"input_tokens": 10, "output_tokens": 5, "service_tier": "batch"}
    message: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x"}
    message |= {"stop_reason": "end_turn"}
    message |= {"content": [{"type": "text", "text": "Hello."}], "usage": usage, "stop_sequence": None}
    error = {"type": "error", "error": {"type": "invalid_request_error", "message": "bad"}}
    results: list[dict[str, Any]] = [
        {"type": "succeeded", "message": message},
        {"type": "errored", "error": error},
        {"type": "canceled"},
        {"type": "expired"},
    ]
    lines = [json.dumps({"custom_id": f"r{number}", "result": result}) for number, result in enumerate(results)]
    bodies: list[Any] = [batch, batch, "\n".join(lines)]
    return [{"status": 200, "response_kind": "json", "response_body": body} for body in bodies]


def test_each_result_of_a_batch_is_recorded_once_on_the_owner_of_the_batch(proxied: Any, recorder: Any) -> None:
    _, client = clients(recorder)
    proxied.answers = batch_answers()
    params = {"model": "claude-x", "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]}
    with context(user="makes"):
        client.messages.batches.create(requests=[{"custom_id": f"r{n}", "params": params} for n in range(4)])
    assert recorder.events == []
    with context(user="reads"):
        assert len(list(client.messages.batches.results("msgbatch_1"))) == 4
    events = recorder.events
    assert [e["user"] for e in events] == ["makes"] * 4
    assert [e.get("status", "ok") for e in events] == ["ok", "error", "cancelled", "error"]
    assert [e["extra"] for e in events] == [{"batch_id": "msgbatch_1", "custom_id": f"r{n}"} for n in range(4)]
    assert {e["service_tier"] for e in events} == {"batch"}
    first = events[0]
    assert (first["model"], first["response_id"], first["tokens"]) == ("claude-x", "msg_1", {"input": 10, "output": 5})
    assert events[1]["error"] == {"type": "invalid_request_error", "message": "bad"}
    assert events[3]["error"] == {"type": "expired"}
    client.close()


def test_results_read_again_or_raw_or_elsewhere_have_the_same_ids(proxied: Any, recorder: Any) -> None:
    _, client = clients(recorder)
    for _ in range(2):
        proxied.answers = batch_answers()[1:]
        assert len(list(client.messages.batches.results("msgbatch_1"))) == 4
    proxied.answers = batch_answers()[1:]
    raw = client.messages.batches.with_raw_response.results("msgbatch_1")
    assert len(list(raw.parse())) == 4

    async def read() -> None:
        async with AsyncAnthropic(api_key="k", base_url=HOST, tailrace=recorder) as other:
            proxied.answers = batch_answers()[1:]
            results = await other.messages.batches.results("msgbatch_1")
            assert len([r async for r in results]) == 4

    asyncio.run(read())
    assert len(recorder.events) == 16
    assert len({e["id"] for e in recorder.events}) == 4
    client.close()


def test_the_clients_of_bedrock_and_vertex_ai_are_recorded(messages: Any, proxied: Any, recorder: Any) -> None:
    from tailrace_emitter.anthropic import AnthropicBedrock, AnthropicVertex

    proxied.answers = [messages[0]]
    asked = request(messages[0])
    model = "anthropic.claude-sonnet-4-5-20250929-v1:0"
    region = "http://bedrock-runtime.us-east-1.amazonaws.com"
    bedrock = AnthropicBedrock(api_key="k", aws_region="us-east-1", base_url=region, tailrace=recorder)
    bedrock.messages.create(**{**asked, "model": model})
    vertex = AnthropicVertex(
        region="us-east5",
        project_id="p",
        access_token="t",
        base_url="http://us-east5-aiplatform.googleapis.com/v1",
        tailrace=recorder,
    )
    vertex.messages.create(**asked)
    behind = AnthropicBedrock(api_key="k", aws_region="us-east-1", base_url="http://gateway.test", tailrace=recorder)
    behind.messages.create(**{**asked, "model": model})
    found = [(e["provider"], e["host"], e["model"]) for e in recorder.events]
    assert found == [
        ("aws.bedrock", "bedrock-runtime.us-east-1.amazonaws.com", model),
        ("gcp.vertex_ai", "us-east5-aiplatform.googleapis.com", asked["model"]),
        ("aws.bedrock", "gateway.test", model),
    ]
    assert all(e["tokens"] for e in recorder.events)
    for client in (bedrock, vertex, behind):
        client.close()
