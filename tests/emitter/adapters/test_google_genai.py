"""The Google GenAI adapter with the real SDK, against what the Gemini API and Vertex AI really answered."""

import asyncio
import gc
import json
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from tailrace_emitter import context
from tailrace_emitter.google_genai import Client

HOSTS = {"gemini": "generativelanguage.googleapis.com", "vertex": "us-central1-aiplatform.googleapis.com"}
PROVIDERS = {"gemini": "gcp.gemini", "vertex": "gcp.vertex_ai"}
pytestmark = pytest.mark.filterwarnings("ignore:.* is not a valid:UserWarning")  # words newer than this SDK
TIERS = {"ON_DEMAND_FLEX": "flex"}


def options(provider: str) -> dict[str, Any]:
    http = {"http_options": {"base_url": f"http://{HOSTS[provider]}"}}
    if provider == "gemini":
        return {"api_key": "k", **http}
    return {"vertexai": True, "project": "p", "location": "us-central1", "credentials": Credentials("token"), **http}


def whole(value: Any) -> Any:
    """A recording whose cut base64 values are base64 again."""
    if isinstance(value, dict):
        return {k: "AAAA" if k in ("thoughtSignature", "data") else whole(v) for k, v in value.items()}
    return [whole(v) for v in value] if isinstance(value, list) else value


def frames(exchange: dict[str, Any]) -> list[dict[str, Any]]:
    body = exchange["response_body"]
    if isinstance(body, str):
        return [whole(json.loads(line[5:])) for line in body.splitlines() if line.startswith("data:")]
    return [whole(one) for one in body] if isinstance(body, list) else [whole(body)]


def model_of(exchange: dict[str, Any]) -> str:
    return str(exchange["endpoint"].split("models/")[1].split(":")[0])


def serve(provider: Any, exchange: dict[str, Any]) -> None:
    body = exchange["response_body"]
    if exchange["response_kind"] == "sse":
        body = "".join(f"data: {json.dumps(frame)}\r\n\r\n" for frame in frames(exchange))
    provider.answers = [{**exchange, "response_body": whole(body)}]


def arguments(exchange: dict[str, Any]) -> dict[str, Any]:
    """The recorded request, as far as this version of the SDK has its fields."""
    body = whole(exchange["request_body"])
    try:
        contents: Any = [types.Content.model_validate(c) for c in body["contents"]]
        config: Any = types.GenerateContentConfig.model_validate(
            {
                **{k: v for k, v in body.get("generationConfig", {}).items() if "Schema" not in k},
                "systemInstruction": body.get("systemInstruction"),
            }
        )
    except ValueError:
        contents, config = "Hi", None
    return {"model": model_of(exchange), "contents": contents, "config": config}


def ask(client: Any, exchange: dict[str, Any]) -> Any:
    models = client.models
    streams = exchange["response_kind"] == "sse"
    asked = arguments(exchange)
    return list(models.generate_content_stream(**asked)) if streams else models.generate_content(**asked)


@pytest.fixture(scope="module")
def generated(exchanges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in exchanges if e["provider"] in HOSTS and "enerateContent" in e["endpoint"]]


def expected_tokens(usage: dict[str, Any]) -> dict[str, int]:
    """Google's counting: thoughts beside the candidates, tools beside the prompt, and the total of all."""
    given = usage.get("promptTokenCount", 0) + usage.get("toolUsePromptTokenCount", 0)
    made = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
    tokens = {"input": given, "output": max(made, usage.get("totalTokenCount", 0) - given)}
    for name, of in (("cache_read", "cachedContentTokenCount"), ("reasoning", "thoughtsTokenCount")):
        if of in usage:
            tokens[name] = usage[of]
    return tokens


def check(event: dict[str, Any], exchange: dict[str, Any], *, stream: bool) -> None:
    chunks = frames(exchange)
    candidates = [c for chunk in chunks for c in chunk.get("candidates", ())]
    parts = [p for c in candidates for p in c.get("content", {}).get("parts", ())]
    usage = [chunk["usageMetadata"] for chunk in chunks if "usageMetadata" in chunk][-1]
    assert event["model"] == model_of(exchange)
    assert event.get("response_model") == chunks[-1].get("modelVersion")
    assert event.get("response_id") == chunks[-1].get("responseId")
    assert (event["provider"], event["host"]) == (PROVIDERS[exchange["provider"]], HOSTS[exchange["provider"]])
    reasons = [c["finishReason"] for c in candidates if "finishReason" in c]
    blocked = chunks[-1].get("promptFeedback", {}).get("blockReason")
    assert event.get("finish_reason") == (str(reasons[0]) if reasons else blocked)
    assert event.get("status") == ("blocked" if blocked else None)
    text = "".join(p["text"] for p in parts if "text" in p and not p.get("thought"))
    assert event["content"].get("output", "") == text
    calls = [p.get("functionCall") or p.get("toolCall") for p in parts if "functionCall" in p or "toolCall" in p]
    names = [(c.get("name") or c["toolType"], c.get("args", {})) for c in calls]
    found = [(t["name"], json.loads(t["args"])) for t in event.get("tools", ()) if t["name"] != "code_execution"]
    assert found == names
    expected = expected_tokens(usage)
    got = {name: event.get("tokens", {}).get(name, 0) for name in expected}
    assert got == expected
    tier = usage.get("serviceTier") or TIERS.get(usage.get("trafficType"))
    assert event.get("service_tier") == tier
    assert event.get("stream", False) is stream


def numbered(exchange: dict[str, Any]) -> bool:
    """Recorded with another SDK, which asked for numbers in place of names; this one cannot read them."""
    return any(isinstance(c.get("finishReason"), int) for f in frames(exchange) for c in f.get("candidates", ()))


@pytest.mark.parametrize("served_by", ["gemini", "vertex"])
def test_every_recorded_answer_is_read_as_it_was_given(
    served_by: str, generated: Any, proxied: Any, recorder: Any
) -> None:
    client = Client(**options(served_by), tailrace=recorder)
    good = [e for e in generated if e["provider"] == served_by and e["status"] == 200 and not numbered(e)]
    assert len(good) == {"gemini": 328, "vertex": 120}[served_by]
    for exchange in good:
        if isinstance(exchange["response_body"], list):  # a stream asked for as one JSON list: the SDK asks for events
            body = "".join(f"data: {json.dumps(f)}\n\n" for f in exchange["response_body"])
            exchange = {**exchange, "response_kind": "sse", "response_body": body}
        serve(proxied, exchange)
        ask(client, exchange)
        assert "HTTP" not in proxied.paths[-1]
        assert HOSTS[served_by] in proxied.paths[-1]
        check(recorder.events[-1], exchange, stream=exchange["response_kind"] == "sse")
    assert len(recorder.events) == len(good)


def test_answers_and_chunks_are_the_sdks_own(generated: Any, proxied: Any, recorder: Any) -> None:
    plain, client = genai.Client(**options("gemini")), Client(**options("gemini"), tailrace=recorder)
    good = [e for e in generated if e["provider"] == "gemini" and e["status"] == 200]
    chosen = good[::20] + [e for e in good if e["response_kind"] == "sse"]
    for exchange in chosen:
        serve(proxied, exchange)
        one, other = ask(plain, exchange), ask(client, exchange)
        assert type(one) is type(other)
        assert one == other
    assert len(recorder.events) == len(chosen)
    assert type(client.models).__name__ == "Models"
    assert isinstance(client.models, genai.models.Models)


@pytest.mark.parametrize("served_by", ["gemini", "vertex"])
def test_errors_reach_the_app_unchanged_and_are_recorded(
    served_by: str, generated: Any, proxied: Any, recorder: Any
) -> None:
    plain, client = genai.Client(**options(served_by)), Client(**options(served_by), tailrace=recorder)
    failed = [e for e in generated if e["provider"] == served_by and e["status"] != 200]
    assert len(failed) == {"gemini": 1, "vertex": 6}[served_by]
    for exchange in failed:
        serve(proxied, exchange)
        raised = []
        for one in (plain, client):
            with pytest.raises(errors.ClientError) as caught:
                ask(one, exchange)
            raised.append(caught.value)
        assert str(raised[0]) == str(raised[1])
        event, told = recorder.events[-1], exchange["response_body"]["error"]
        assert (event["status"], event["error"]["type"]) == ("error", "ClientError")
        assert event["error"]["code"] == told["status"]
        assert told["message"][:30] in event["error"]["message"]
        assert event["usage_reported"] is False
        assert "tokens" not in event


@pytest.fixture
def streamed(generated: Any) -> dict[str, Any]:
    """A stream of some chunks, whose usage grows from chunk to chunk."""
    found: dict[str, Any] = next(
        e for e in generated if e["response_kind"] == "sse" and e["provider"] == "gemini" and len(frames(e)) > 6
    )
    return found


@pytest.fixture
def client(recorder: Any, proxied: Any) -> Any:
    return Client(**options("gemini"), tailrace=recorder)


@pytest.mark.parametrize("way", ["close", "drop"])
def test_an_aborted_stream_is_cancelled_and_its_output_is_unknown(
    way: str, streamed: Any, client: Any, proxied: Any, recorder: Any
) -> None:
    serve(proxied, streamed)
    stream = client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi")
    next(stream)
    if way == "close":
        stream.close()
    del stream
    (event,) = recorder.events
    assert (event["status"], event["usage_reported"]) == ("cancelled", False)
    assert "output" not in event["tokens"]
    assert event["tokens"]["input"] > 0


def test_a_stream_that_was_read_counts_once_and_its_last_usage_wins(
    streamed: Any, client: Any, proxied: Any, recorder: Any
) -> None:
    serve(proxied, streamed)
    assert len(list(client.models.generate_content_stream(model=model_of(streamed), contents="Hi"))) > 6
    assert len(recorder.events) == 1
    check(recorder.events[-1], streamed, stream=True)
    assert 0 < recorder.events[-1]["latency"]["ttft_ms"] <= recorder.events[-1]["latency"]["total_ms"]


def test_a_stream_is_on_who_asked_not_on_who_reads(streamed: Any, client: Any, proxied: Any, recorder: Any) -> None:
    serve(proxied, streamed)
    chat = client.chats.create(model="gemini-2.5-flash")
    with context(user="asks"):
        streams = [client.models.generate_content_stream(model="gemini-2.5-flash", contents="Hi")]
        streams.append(chat.send_message_stream("Hi"))
    with context(user="reads"):
        for stream in streams:
            assert len(list(stream)) > 6
    assert [e["user"] for e in recorder.events] == ["asks", "asks"]
    assert len(chat.get_history()) > 1


def test_each_request_of_automatic_function_calling_is_a_call(
    generated: Any, client: Any, proxied: Any, recorder: Any
) -> None:
    def get_weather(city: str) -> str:
        """The weather of a city."""
        return f"sunny in {city}"

    part = {"functionCall": {"name": "get_weather", "args": {"city": "Paris"}}}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}
    asked = {"candidates": [{"content": {"role": "model", "parts": [part]}}], "usageMetadata": usage}
    final = next(e for e in generated if e["provider"] == "gemini" and frames(e)[0].get("responseId"))
    proxied.answers = [{"status": 200, "response_kind": "json", "response_body": asked}, {**final}]
    proxied.answers[1]["response_body"] = whole(final["response_body"])
    answer = client.models.generate_content(model="gemini-2.5-flash", contents="Hi", config={"tools": [get_weather]})
    assert answer.response_id or answer.text
    assert recorder.events[0]["tokens"] == {"input": 5, "output": 2}
    assert recorder.events[0]["tools"] == [{"name": "get_weather", "args": '{"city": "Paris"}'}]
    assert "sunny in Paris" in recorder.events[1]["content"]["input"][-1]["text"]
    assert len(recorder.events) == 2


def test_counting_tokens_is_no_call_and_embedding_is(exchanges: Any, client: Any, proxied: Any, recorder: Any) -> None:
    made = [e for e in exchanges if e["provider"] == "gemini" and "batchEmbed" in e["endpoint"] and e["status"] == 200]
    assert len(made) == 15
    proxied.answers = [{"status": 200, "response_kind": "json", "response_body": {"totalTokens": 5}}]
    assert client.models.count_tokens(model="gemini-2.5-flash", contents="Hi").total_tokens == 5
    assert recorder.events == []
    for exchange in made:
        body = {"embeddings": [{"values": [0.5]}], **exchange["response_body"]}
        body["embeddings"] = [{"values": [0.5]} for _ in body["embeddings"]]
        proxied.answers = [{**exchange, "response_body": body}]
        client.models.embed_content(model=model_of(exchange), contents=["hello", "world"])
        event, usage = recorder.events[-1], body.get("usageMetadata")
        assert (event["op"], event["model"]) == ("embeddings", model_of(exchange))
        assert event.get("tokens") == ({"input": usage["promptTokenCount"]} if usage else None)
        assert event["usage_reported"] is bool(usage)
        assert [m["text"] for m in event["content"]["input"]] == ["hello", "world"]


def test_vertex_ai_counts_the_tokens_of_each_text(proxied: Any, recorder: Any) -> None:
    client = Client(**options("vertex"), tailrace=recorder)
    counted = [{"embeddings": {"values": [0.5], "statistics": {"token_count": n, "truncated": False}}} for n in (4, 3)]
    proxied.answers = [{"status": 200, "response_kind": "json", "response_body": {"predictions": counted}}]
    client.models.embed_content(model="gemini-embedding-001", contents=["Hello, world!", "Hi"])
    event = recorder.events[-1]
    assert (event["op"], event["model"], event["tokens"]) == ("embeddings", "gemini-embedding-001", {"input": 7})


def test_images_are_counted(client: Any, proxied: Any, recorder: Any) -> None:
    made = [{"bytesBase64Encoded": "AAAA", "mimeType": "image/png"}] * 2
    proxied.answers = [{"status": 200, "response_kind": "json", "response_body": {"predictions": made}}]
    answer = client.models.generate_images(model="imagen-4.0-generate-001", prompt="a cat")
    assert len(answer.generated_images) == 2
    event = recorder.events[-1]
    assert (event["op"], event["tokens"], event["usage_reported"]) == ("image_generation", {"images": 2}, False)
    assert event["content"]["input"] == [{"role": "user", "text": "a cat"}]


def test_the_asynchronous_client_records_the_same(
    generated: Any, streamed: Any, client: Any, proxied: Any, recorder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # with aiohttp, this version reads a stream by packets, and fails where two chunks are in one
    monkeypatch.setattr("google.genai._api_client.has_aiohttp", False)
    answer = next(e for e in generated if e["provider"] == "gemini" and e["response_kind"] == "json")

    async def ask_all() -> None:
        models = client.aio.models
        serve(proxied, answer)
        await models.generate_content(model=model_of(answer), contents="Hi")
        serve(proxied, streamed)
        with context(user="asks"):
            stream = await models.generate_content_stream(model=model_of(streamed), contents="Hi")
            chat = client.aio.chats.create(model=model_of(streamed))
            talk = await chat.send_message_stream("Hi")
        with context(user="reads"):
            assert len([c async for c in stream]) > 6
            assert len([c async for c in talk]) > 6
        left = await models.generate_content_stream(model=model_of(streamed), contents="Hi")
        await left.__anext__()
        await left.aclose()
        proxied.answers = [
            {"status": 503, "response_kind": "json", "response_body": {"error": {"status": "UNAVAILABLE"}}}
        ]
        with pytest.raises(errors.ServerError):
            await models.generate_content(model="gemini-2.5-flash", contents="Hi")
        failing = await models.generate_content_stream(model="gemini-2.5-flash", contents="Hi")
        with pytest.raises(errors.ServerError):
            await failing.__anext__()
        await client._api_client._async_httpx_client.aclose()

    asyncio.run(ask_all())
    gc.collect()
    assert len(recorder.events) == 6
    check(recorder.events[0], answer, stream=False)
    for event in recorder.events[1:3]:
        check(event, streamed, stream=True)
        assert event["user"] == "asks"
    assert recorder.events[3]["status"] == "cancelled"
    assert [e["error"]["code"] for e in recorder.events[4:]] == ["UNAVAILABLE", "UNAVAILABLE"]
