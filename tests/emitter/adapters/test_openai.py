"""The OpenAI adapter with the real SDK, against what providers really answered."""

import asyncio
import json
from typing import Any

import openai
import pytest

from tailrace_emitter.adapters.providers import provider_of
from tailrace_emitter.adapters.raw_stream import MAX_FRAME, _Frames
from tailrace_emitter.adapters.usage import from_openai
from tailrace_emitter.openai import AsyncOpenAI, OpenAI

CHAT, RESPONSES, EMBEDDINGS = "/chat/completions", "/responses", "/embeddings"


def pick(exchanges: list[dict[str, Any]], tail: str, kind: str, status: int = 200) -> list[dict[str, Any]]:
    return [
        e
        for e in exchanges
        if e["endpoint"].split("?")[0].endswith(tail)
        and e["response_kind"] == kind
        and e["status"] == status
        and e["provider"] in ("openai", "groq", "azure_openai", "deepseek", "openrouter")
    ]


def frames(body: str) -> list[dict[str, Any]]:
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line and line != "[DONE]"]


def recorded_usage(exchange: dict[str, Any]) -> dict[str, int]:
    """The usage a recorded stream ends with, read independently of the adapter."""
    found: Any = None
    for frame in frames(exchange["response_body"]):
        held = frame.get("response") or frame.get("x_groq") or {}
        found = frame.get("usage") or held.get("usage") or found
    return from_openai(found) if found else {}


def send(client: Any, exchange: dict[str, Any], tail: str) -> Any:
    """Send the recorded body through the SDK's own method, unknown parameters in extra_body."""
    body = dict(exchange["request_body"])
    stream = body.pop("stream", None)
    resource = {CHAT: client.chat.completions, RESPONSES: client.responses, EMBEDDINGS: client.embeddings}[tail]
    known = {n: body.pop(n) for n in ("model", "messages", "input", "stream_options", "encoding_format") if n in body}
    if stream:
        known["stream"] = True
    return resource.create(**known, extra_body=body)


def plain_and_recorded(provider: Any, recorder: Any) -> tuple[Any, Any]:
    shared = {"api_key": "sk-test", "base_url": provider.url, "max_retries": 0}
    return openai.OpenAI(**shared), OpenAI(**shared, tailrace=recorder)


@pytest.mark.parametrize("tail", [CHAT, RESPONSES, EMBEDDINGS])
def test_answers_are_untouched_and_tokens_are_the_recorded_ones(
    tail: str, exchanges: Any, provider: Any, recorder: Any
) -> None:
    plain, client = plain_and_recorded(provider, recorder)
    chosen = [e for e in pick(exchanges, tail, "json") if isinstance(e["response_body"], dict)][:60]
    assert len(chosen) >= 10
    for exchange in chosen:
        provider.answers = [exchange]
        before = len(recorder.events)
        assert send(client, exchange, tail) == send(plain, exchange, tail)
        assert len(recorder.events) == before + 1
        event = recorder.events[-1]
        expected = from_openai(exchange["response_body"].get("usage"))
        assert event.get("tokens", {}) == expected
        assert event.get("response_model") == exchange["response_body"].get("model")
        assert event["model"] == exchange["request_body"]["model"]
        assert event["latency"]["total_ms"] > 0
        assert event["host"] == "127.0.0.1"
    plain.close()
    client.close()


@pytest.mark.parametrize("tail", [CHAT, RESPONSES])
def test_streams_give_the_same_chunks_and_the_recorded_tokens(
    tail: str, exchanges: Any, provider: Any, recorder: Any
) -> None:
    plain, client = plain_and_recorded(provider, recorder)
    chosen = pick(exchanges, tail, "sse")[:30]
    assert len(chosen) >= 10
    for exchange in chosen:
        provider.answers = [exchange]
        asked_usage = (exchange["request_body"].get("stream_options") or {}).get("include_usage")
        expected = [c.model_dump(warnings=False) for c in send(plain, exchange, tail)]
        got = [c.model_dump(warnings=False) for c in send(client, exchange, tail)]
        if tail == CHAT and not asked_usage:
            expected = [c for c in expected if c["choices"] or not c["usage"]]
        assert got == expected
        event = recorder.events[-1]
        assert event.get("tokens", {}) == recorded_usage(exchange)
        assert event["stream"] is True
        assert 0 < event["latency"]["ttft_ms"] <= event["latency"]["total_ms"]
    plain.close()
    client.close()


def test_usage_is_asked_for_and_hidden_from_an_app_that_did_not_ask(
    exchanges: Any, provider: Any, recorder: Any
) -> None:
    exchange = next(e for e in pick(exchanges, CHAT, "sse") if e["request_body"].get("stream_options"))
    provider.answers = [exchange]
    with OpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
        chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))
    assert provider.asked[-1]["stream_options"] == {"include_usage": True}
    assert all(c.choices for c in chunks)
    assert all("usage" not in c.model_fields_set for c in chunks)
    assert recorder.events[-1]["tokens"] == recorded_usage(exchange)


def test_a_server_without_stream_options_still_streams(exchanges: Any, provider: Any, recorder: Any) -> None:
    provider.answers = [pick(exchanges, CHAT, "sse")[0]]
    provider.refuse_stream_options = True
    with OpenAI(api_key="k", base_url=provider.url, max_retries=0, tailrace=recorder) as client:
        for _ in range(2):
            assert list(client.chat.completions.create(model="m", messages=[], stream=True))
    assert ["stream_options" in body for body in provider.asked] == [True, False, False]
    assert len(recorder.events) == 2


def test_an_abandoned_stream_is_recorded_as_cancelled(exchanges: Any, provider: Any, recorder: Any) -> None:
    provider.answers = [pick(exchanges, CHAT, "sse")[0]]
    with OpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        next(iter(stream))
        stream.close()
        del stream
    assert recorder.events[-1]["status"] == "cancelled"
    assert recorder.events[-1]["usage_reported"] is False


def test_errors_reach_the_app_unchanged_and_are_recorded(exchanges: Any, provider: Any, recorder: Any) -> None:
    plain, client = plain_and_recorded(provider, recorder)
    chosen = [e for s in (400, 401, 404, 429) for e in pick(exchanges, CHAT, "json", s)]
    assert chosen
    for exchange in chosen:
        provider.answers = [exchange]
        errors = []
        for one in (plain, client):
            with pytest.raises(openai.APIStatusError) as caught:
                one.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
            errors.append(caught.value)
        assert type(errors[0]) is type(errors[1])
        assert str(errors[0]) == str(errors[1])
        event = recorder.events[-1]
        assert event["status"] in ("error", "blocked")
        assert event["error"]["type"] == type(errors[0]).__name__
        assert len(event["error"]["message"]) <= 500
    plain.close()
    client.close()


def test_retries_inside_a_call_are_counted(exchanges: Any, provider: Any, recorder: Any) -> None:
    good = pick(exchanges, CHAT, "json")[0]
    bad = {"status": 500, "response_body": {"error": {"message": "busy"}}, "response_kind": "json"}
    provider.answers = [bad, good]
    with OpenAI(api_key="k", base_url=provider.url, max_retries=2, tailrace=recorder) as client:
        client.chat.completions.create(model="m", messages=[])
    assert recorder.events[-1]["retries"] == 1
    assert "status" not in recorder.events[-1]


def test_a_dead_provider_is_an_error_event(recorder: Any) -> None:
    with (
        OpenAI(api_key="k", base_url="http://127.0.0.1:9/v1", max_retries=0, tailrace=recorder) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(model="m", messages=[])
    assert recorder.events[-1]["error"]["type"] == "APIConnectionError"


def test_tools_are_named_with_their_arguments(exchanges: Any, provider: Any, recorder: Any) -> None:
    exchange = next(
        e
        for e in pick(exchanges, CHAT, "json")
        if (e["response_body"]["choices"][0].get("message") or {}).get("tool_calls")
    )
    provider.answers = [exchange]
    with OpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
        send(client, exchange, CHAT)
    asked = exchange["response_body"]["choices"][0]["message"]["tool_calls"]
    tools = recorder.events[-1]["tools"]
    assert [(t["name"], t["id"], t["args"]) for t in tools] == [
        (c["function"]["name"], c["id"], c["function"]["arguments"]) for c in asked
    ]


def test_raw_responses_are_read_without_touching_them(exchanges: Any, provider: Any, recorder: Any) -> None:
    exchange = pick(exchanges, CHAT, "json")[0]
    provider.answers = [exchange]
    with OpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
        raw = client.chat.completions.with_raw_response.create(model="m", messages=[])
        assert raw.parse().id == exchange["response_body"]["id"]
        assert recorder.events[-1]["tokens"] == from_openai(exchange["response_body"]["usage"])
        with client.chat.completions.with_streaming_response.create(model="m", messages=[]) as streamed:
            assert json.loads(streamed.read())["id"] == exchange["response_body"]["id"]
    assert recorder.events[-1]["tokens"] == from_openai(exchange["response_body"]["usage"])


def chunked(*deltas: dict[str, Any], finish: str, usage: dict[str, int] | None = None) -> dict[str, Any]:
    """A stream of chat chunks, as a recorded exchange."""
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    chunks = [{**base, "choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        chunks.append({**base, "choices": [], "usage": usage})
    body = "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + "data: [DONE]\n\n"
    return {"status": 200, "response_kind": "sse", "response_body": body}


def test_streamed_tool_calls_are_told_apart_however_they_are_numbered(provider: Any, recorder: Any) -> None:
    def piece(call_id: str | None, name: str, arguments: str, index: int = 0) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "id": call_id, "function": {"name": name, "arguments": arguments}}]}

    all_zero = (piece("a", "weather", '{"city": '), piece(None, "", '"Oslo"}'), piece("b", "time", "{}"))
    numbered = (piece("a", "weather", '{"city": "Oslo"}'), piece("b", "time", "{}", index=1))
    legacy = ({"function_call": {"name": "weather", "arguments": '{"city": '}}, {"function_call": {"arguments": "1}"}})
    with OpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
        for deltas in (all_zero, numbered, legacy):
            provider.answers = [chunked(*deltas, finish="tool_calls")]
            for _ in client.chat.completions.create(model="gpt-4o", messages=[], stream=True):
                pass
    tools = [[(t["name"], t["args"]) for t in e["tools"]] for e in recorder.events]
    two = [("weather", '{"city": "Oslo"}'), ("time", "{}")]
    assert tools == [two, two, [("weather", '{"city": 1}')]]


def test_raw_streams_are_recorded_with_usage_that_the_app_does_not_see(provider: Any, recorder: Any) -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    provider.answers = [chunked({"content": "Hel"}, {"content": "lo."}, finish="stop", usage=usage)]
    with OpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=[], stream=True)
        seen = list(raw.parse())
        with client.chat.completions.with_streaming_response.create(
            model="gpt-4o", messages=[], stream=True
        ) as response:
            lines = [line for line in response.iter_lines() if line]
    assert [len(seen), len(lines)] == [3, 4]
    assert not any("usage" in line for line in lines)
    for event in recorder.events:
        assert event["tokens"] == {"input": 1000, "output": 500}
        assert event["content"]["output"] == "Hello."
        assert event["usage_reported"] is True
    assert len(recorder.events) == 2


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_events_of_any_line_end_reach_the_app_as_they_come_without_the_usage(line_end: bytes, size: int) -> None:
    frames = _Frames()
    end = line_end * 2
    first, hidden, last = b'data: {"choices": [1]}', b'data: {"choices": [], "usage": {"a": 1}}', b"data: [DONE]"
    assert frames.pass_on(first + end) == first + end
    body = hidden + end + last + end
    shown = b"".join(frames.pass_on(body[i : i + size]) for i in range(0, len(body), size)) + frames.rest()
    assert shown.strip() == last


def test_an_event_without_an_end_is_neither_held_back_nor_remembered() -> None:
    frames, piece = _Frames(), b"x" * 1000
    shown = b"".join(frames.pass_on(piece) for _ in range(1000))
    assert len(shown) > 1000 * 1000 - MAX_FRAME
    assert shown + frames.rest() == piece * 1000


def test_the_provider_is_who_the_host_or_the_name_says_and_never_a_guess() -> None:
    assert provider_of("api.openai.com") == "openai"
    assert provider_of("eu.api.openai.com") == "openai"
    assert provider_of("acme.openai.azure.com") == "azure.ai.openai"
    assert provider_of("bedrock-runtime.us-west-2.amazonaws.com") == "aws.bedrock"
    assert provider_of("litellm.internal", "claude-sonnet-4-5") is None
    assert provider_of("litellm.internal", "anthropic/claude-sonnet-4-5") == "anthropic"
    assert provider_of("litellm.internal", "us.anthropic.claude-sonnet-4-5-20250929-v1:0") == "aws.bedrock"
    assert provider_of("127.0.0.1", "gpt-4o") is None
    assert provider_of("notapi.openai.com.evil.example") is None


def test_context_and_copies_keep_their_fields(exchanges: Any, provider: Any, recorder: Any) -> None:
    from tailrace_emitter import context

    provider.answers = [pick(exchanges, CHAT, "json")[0]]
    with OpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
        conversation = [{"role": "user", "content": "hello"}]
        with context(feature="search", session_id="s-1"):
            client.with_options(timeout=5).chat.completions.create(model="m", messages=conversation)
        conversation.append({"role": "assistant", "content": "later"})
    event = recorder.events[-1]
    assert (event["feature"], event["session_id"]) == ("search", "s-1")
    assert [m["text"] for m in event["content"]["input"]] == ["hello"]


def test_async_calls_streams_and_cancellation(exchanges: Any, provider: Any, recorder: Any) -> None:
    answer, stream = pick(exchanges, CHAT, "json")[0], pick(exchanges, CHAT, "sse")[0]

    async def run() -> None:
        async with AsyncOpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
            provider.answers = [answer]
            await client.chat.completions.create(model="m", messages=[])
            provider.answers = [stream]
            chunks = [c async for c in await client.chat.completions.create(model="m", messages=[], stream=True)]
            assert chunks
            task = asyncio.ensure_future(client.chat.completions.create(model="m", messages=[]))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    first, second, *rest = recorder.events
    assert first["tokens"] == from_openai(answer["response_body"]["usage"])
    assert second.get("tokens", {}) == recorded_usage(stream)
    assert all(e["status"] == "cancelled" for e in rest)


def test_a_broken_emitter_never_breaks_the_client(exchanges: Any, provider: Any, recorder: Any) -> None:
    provider.answers = [pick(exchanges, CHAT, "json")[0]]

    def fail(*args: Any, **kwargs: Any) -> str:
        raise RuntimeError("the emitter is broken")

    recorder._put = fail
    with OpenAI(api_key="k", base_url=provider.url, tailrace=recorder) as client:
        assert client.chat.completions.create(model="m", messages=[]).id
