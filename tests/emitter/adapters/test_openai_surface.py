"""Every endpoint of the OpenAI API through the real SDK: what the app gets, and the one event of each call."""

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel, field_serializer

from tailrace_emitter.openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

CHAT = ("POST", "/v1/chat/completions")
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
TOKENS = {"input": 1000, "output": 500}
WAV = ("a.wav", b"RIFF" + b"\0" * 64, "audio/wav")
PNG = ("a.png", b"\x89PNG" + b"\0" * 64, "image/png")
IMAGE = base64.b64encode(b"png").decode()
IMAGE_USAGE = {
    "input_tokens": 50,
    "output_tokens": 6208,
    "total_tokens": 6258,
    "input_tokens_details": {"text_tokens": 40, "image_tokens": 10},
}
SPOKEN_USAGE = {
    "type": "tokens",
    "input_tokens": 790,
    "output_tokens": 28,
    "total_tokens": 818,
    "input_token_details": {"text_tokens": 0, "audio_tokens": 790},
}


def chat(*choices: dict[str, Any], usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    found = [{"index": i, "finish_reason": "stop", **choice} for i, choice in enumerate(choices)]
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o-1", "choices": found, **more} | (
        {"usage": usage} if usage else {}
    )


def said(text: str | None, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text, **more}}


def called(name: str, arguments: str, call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.fixture(params=["sync", "async"])
def ask(request: Any, api: Any, recorder: Any) -> Callable[..., Any]:
    """Call ``path`` of a recorded client; of a stream return the list of what it held. Both kinds of client."""

    def method(client: Any, path: str) -> Any:
        for name in path.split("."):
            client = getattr(client, name)
        return client

    def sync(path: str, **kwargs: Any) -> Any:
        with OpenAI(api_key="k", base_url=api.url, max_retries=0, tailrace=recorder) as client:
            result = method(client, path)(**kwargs)
            return list(result) if isinstance(result, openai.Stream) else result

    def asynchronous(path: str, **kwargs: Any) -> Any:
        async def run() -> Any:
            async with AsyncOpenAI(api_key="k", base_url=api.url, max_retries=0, tailrace=recorder) as client:
                result = await method(client, path)(**kwargs)
                return [one async for one in result] if isinstance(result, openai.AsyncStream) else result

        return asyncio.run(run())

    return sync if request.param == "sync" else asynchronous


def only(recorder: Any) -> dict[str, Any]:
    (event,) = recorder.events
    return dict(event)


def test_several_choices_are_one_call_with_every_text_and_tool(api: Any, recorder: Any, ask: Any) -> None:
    tools = [called("weather", '{"city": "Oslo"}', "a"), called("time", "{}", "b")]
    api.routes[CHAT] = chat(said("One."), said("Two.", tool_calls=tools))
    answer = ask("chat.completions.create", model="gpt-4o", messages=[{"role": "user", "content": "hi"}], n=2)
    assert [c.message.content for c in answer.choices] == ["One.", "Two."]
    event = only(recorder)
    assert event["content"]["output"] == "One.\n\nTwo."
    assert [(t["name"], t["id"], t["args"]) for t in event["tools"]] == [
        ("weather", "a", '{"city": "Oslo"}'),
        ("time", "b", "{}"),
    ]
    assert (event["tokens"], event["usage_reported"], event["finish_reason"]) == (TOKENS, True, "stop")


def test_a_legacy_function_is_a_tool(api: Any, recorder: Any, ask: Any) -> None:
    function = {"name": "weather", "arguments": "{}"}
    api.routes[CHAT] = chat({**said(None, function_call=function), "finish_reason": "function_call"})
    ask("chat.completions.create", model="gpt-4o", messages=[], functions=[{"name": "weather", "parameters": {}}])
    event = only(recorder)
    assert event["tools"] == [{"name": "weather", "args": "{}"}]
    assert event["finish_reason"] == "function_call"
    assert len(event["tools_hash"]) == 16


def test_a_structured_answer_is_its_text_although_the_apps_type_cannot_be_serialised(
    api: Any, recorder: Any, ask: Any
) -> None:
    class City(BaseModel):
        name: str

        @field_serializer("name")
        def refuse(self, value: str) -> str:
            raise RuntimeError("only the app may do that")

    api.routes[CHAT] = chat(said('{"name": "Oslo"}'))
    answer = ask("chat.completions.parse", model="gpt-4o", messages=[], response_format=City)
    assert answer.choices[0].message.parsed.name == "Oslo"
    event = only(recorder)
    assert (event["content"]["output"], event["tokens"]) == ('{"name": "Oslo"}', TOKENS)


def test_spoken_answers_are_their_transcript(api: Any, recorder: Any, ask: Any) -> None:
    audio = {"id": "audio_1", "data": IMAGE, "expires_at": 1, "transcript": "Hello there."}
    usage = {**USAGE, "completion_tokens_details": {"audio_tokens": 450}}
    api.routes[CHAT] = chat(said(None, audio=audio), usage=usage)
    ask("chat.completions.create", model="gpt-4o-audio-preview", messages=[], modalities=["text", "audio"])
    event = only(recorder)
    assert event["content"]["output"] == "Hello there."
    assert event["tokens"] == {**TOKENS, "audio_out": 450}


def test_a_text_completion(api: Any, recorder: Any, ask: Any) -> None:
    answer = {"id": "t1", "object": "text_completion", "created": 1, "model": "davinci-002", "usage": USAGE}
    api.routes["POST", "/v1/completions"] = answer | {
        "choices": [{"index": 0, "text": "Once", "finish_reason": "length"}]
    }
    ask("completions.create", model="davinci-002", prompt="Tell")
    event = only(recorder)
    assert (event["op"], event["content"]["output"], event["finish_reason"]) == ("text_completion", "Once", "length")
    assert event["tokens"] == TOKENS


def test_embeddings_hold_the_input_and_no_vectors(api: Any, recorder: Any, ask: Any) -> None:
    vector = {"object": "embedding", "index": 0, "embedding": [0.25, 0.5]}
    answer = {"object": "list", "model": "text-embedding-3-small", "data": [vector]}
    api.routes["POST", "/v1/embeddings"] = answer | {"usage": {"prompt_tokens": 8, "total_tokens": 8}}
    got = ask("embeddings.create", model="text-embedding-3-small", input=["some text"], encoding_format="float")
    assert got.data[0].embedding == [0.25, 0.5]
    event = only(recorder)
    assert (event["op"], event["tokens"]) == ("embeddings", {"input": 8})
    assert event["content"]["input"][0]["text"] == "some text"
    assert "output" not in event["content"]


def test_images_are_counted_and_their_usage_is_the_reported_one(api: Any, recorder: Any, ask: Any) -> None:
    answer = {"created": 1, "data": [{"b64_json": IMAGE}, {"b64_json": IMAGE}], "usage": IMAGE_USAGE}
    for path in ("generations", "edits"):
        api.routes["POST", f"/v1/images/{path}"] = answer
    ask("images.generate", model="gpt-image-1.5", prompt="a cat", n=2)
    ask("images.edit", model="gpt-image-1.5", prompt="a red cat", image=PNG)
    for event, prompt in zip(recorder.events, ("a cat", "a red cat"), strict=True):
        assert event["op"] == "image_generation"
        assert event["tokens"] == {"input": 50, "output": 6208, "images": 2}
        assert event["units"] == [
            {"unit": "input_image_tokens", "quantity": 10},
            {"unit": "output_image_tokens", "quantity": 6208},
        ]
        assert event["content"]["input"] == [{"role": "user", "text": prompt}]
        assert event["content"]["output"] == "[image]\n[image]"
        assert IMAGE not in str(event)


def test_an_image_without_usage_has_none(api: Any, recorder: Any, ask: Any) -> None:
    data = [{"url": "http://x/y.png", "revised_prompt": "a grey cat"}]
    api.routes["POST", "/v1/images/generations"] = {"created": 1, "data": data}
    ask("images.generate", model="dall-e-3", prompt="a cat")
    event = only(recorder)
    assert (event["tokens"], event["usage_reported"]) == ({"images": 1}, False)
    assert event["content"]["output"] == "a grey cat"


def test_a_streamed_image(api: Any, recorder: Any, ask: Any) -> None:
    shape = {"b64_json": IMAGE, "background": "auto", "created_at": 1, "output_format": "png", "quality": "high"}
    first = {"type": "image_generation.partial_image", "partial_image_index": 0, **shape, "size": "1024x1024"}
    last = {"type": "image_generation.completed", "usage": IMAGE_USAGE, **shape, "size": "1024x1024"}
    api.routes["POST", "/v1/images/generations"] = [first, last]
    got = ask("images.generate", model="gpt-image-1.5", prompt="a cat", stream=True, partial_images=1)
    assert [e.type for e in got] == [first["type"], last["type"]]
    event = only(recorder)
    assert event["tokens"] == {"input": 50, "output": 6208, "images": 1}
    assert event["stream"] is True
    assert event["latency"]["ttft_ms"] > 0


def test_speech_has_its_text_and_no_invented_usage(api: Any, recorder: Any, ask: Any) -> None:
    api.routes["POST", "/v1/audio/speech"] = b"ID3" + b"\0" * 100
    got = ask("audio.speech.create", model="tts-1", voice="alloy", input="Hello there.")
    assert got.content.startswith(b"ID3")
    event = only(recorder)
    assert (event["op"], event["usage_reported"], event["content"]["output"]) == ("speech", False, "[audio]")
    assert event["content"]["input"] == [{"role": "user", "text": "Hello there."}]
    assert "tokens" not in event
    assert event["units"] == [{"unit": "input_characters", "quantity": 12}]


def test_speech_as_events_has_the_usage_of_its_last(api: Any, recorder: Any, ask: Any) -> None:
    usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
    api.routes["POST", "/v1/audio/speech"] = [
        {"type": "speech.audio.delta", "audio": IMAGE},
        {"type": "speech.audio.done", "usage": usage},
    ]
    ask("audio.speech.create", model="gpt-4o-mini-tts", voice="alloy", input="Hello.", stream_format="sse")
    event = only(recorder)
    assert (event["tokens"], event["stream"]) == ({"input": 14, "output": 101}, True)
    assert "units" not in event


def test_speech_that_is_read_as_it_comes_is_recorded_at_its_end(api: Any, recorder: Any) -> None:
    api.routes["POST", "/v1/audio/speech"] = b"ID3" + b"\0" * 100
    with OpenAI(api_key="k", base_url=api.url, tailrace=recorder) as client:
        speech = client.audio.speech.with_streaming_response
        with speech.create(model="tts-1", voice="alloy", input="Hello.") as response:
            assert not recorder.events
            assert sum(map(len, response.iter_bytes(10))) == 103
    event = only(recorder)
    assert (event["op"], event["content"]["output"]) == ("speech", "[audio]")
    assert event["latency"]["ttft_ms"] > 0


@pytest.mark.parametrize(
    ("answer", "format", "tokens", "seconds"),
    [
        ({"text": "hello there", "usage": SPOKEN_USAGE}, "json", {"input": 790, "output": 28, "audio_in": 790}, None),
        ({"text": "hello there", "usage": {"type": "duration", "seconds": 60}}, "json", None, 60),
        ({"text": "hello there", "duration": 60.0, "language": "en"}, "verbose_json", None, 60),
        ("hello there", "text", None, None),
    ],
)
def test_transcriptions_are_their_text(
    answer: Any, format: str, tokens: Any, seconds: Any, api: Any, recorder: Any, ask: Any
) -> None:
    for op, path in (("transcription", "transcriptions"), ("translation", "translations")):
        api.routes["POST", f"/v1/audio/{path}"] = answer
        ask(f"audio.{path}.create", model="gpt-4o-transcribe", file=WAV, response_format=format)
        event = recorder.events.pop()
        assert (event["op"], event["content"]["output"]) == (op, "hello there")
        assert event["content"]["input"] == [{"role": "user", "text": "[audio]"}]
        assert event.get("tokens") == tokens
        units = [{"unit": "input_audio_seconds", "quantity": seconds}] if seconds else None
        assert event.get("units") == units
        assert "RIFF" not in str(event)


def test_a_streamed_transcription(api: Any, recorder: Any, ask: Any) -> None:
    api.routes["POST", "/v1/audio/transcriptions"] = [
        {"type": "transcript.text.delta", "delta": "hello "},
        {"type": "transcript.text.delta", "delta": "there"},
        {"type": "transcript.text.done", "text": "hello there", "usage": SPOKEN_USAGE},
    ]
    assert len(ask("audio.transcriptions.create", model="gpt-4o-transcribe", file=WAV, stream=True)) == 3
    event = only(recorder)
    assert event["content"]["output"] == "hello there"
    assert {k: event["tokens"][k] for k in ("input", "output")} == {"input": 790, "output": 28}
    assert event["latency"]["ttft_ms"] > 0


def test_a_moderation_is_a_verdict_on_each_input_and_has_no_usage(api: Any, recorder: Any, ask: Any) -> None:
    results = [
        {"flagged": True, "categories": {"hate": True}, "category_scores": {"hate": 0.9, "violence": 0.1}},
        {"flagged": False, "categories": {"hate": False}, "category_scores": {"hate": 0.01, "violence": 0.02}},
    ]
    api.routes["POST", "/v1/moderations"] = {"id": "m1", "model": "omni-moderation-1", "results": results}
    ask("moderations.create", input=["one", "two"])
    event = only(recorder)
    assert (event["op"], event["model"], event["usage_reported"]) == ("moderation", "omni-moderation-1", False)
    name = {"name": "omni-moderation-1", "stage": "input"}
    assert event["guardrails"] == [
        {**name, "action": "flag", "score": 0.9, "category": "hate"},
        {**name, "action": "pass", "score": 0.02},
    ]


def test_azure_is_asked_at_its_deployment(api: Any, recorder: Any) -> None:
    api.routes["POST", "/openai/deployments/my-gpt/chat/completions"] = chat(said("Hello."))
    shared = {"api_key": "k", "azure_endpoint": api.url[:-3], "api_version": "2025-01-01", "tailrace": recorder}
    with AzureOpenAI(**shared) as client:
        client.chat.completions.create(model="my-gpt", messages=[])

    async def run() -> None:
        async with AsyncAzureOpenAI(**shared) as client:
            await client.chat.completions.create(model="my-gpt", messages=[])

    asyncio.run(run())
    for event in recorder.events:
        assert (event["model"], event["response_model"], event["tokens"]) == ("my-gpt", "gpt-4o-1", TOKENS)
    assert len(recorder.events) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_an_error_is_the_apps_own_and_one_event(status: int, api: Any, recorder: Any, ask: Any) -> None:
    error = {"message": f"no {status}", "type": "some_error", "code": "some_code"}
    for path in ("/v1/responses", "/v1/embeddings", "/v1/images/generations"):
        api.routes["POST", path] = (status, {"error": error})
    for path, kwargs in (
        ("responses.create", {"input": "hi"}),
        ("embeddings.create", {"input": "hi"}),
        ("images.generate", {"prompt": "hi"}),
    ):
        with pytest.raises(openai.APIStatusError) as caught:
            ask(path, model="m", **kwargs)
        event = recorder.events.pop()
        assert event["error"] == {
            "type": type(caught.value).__name__,
            "code": "some_code",
            "message": str(caught.value),
        }
        assert (event["status"], event["usage_reported"], event.get("tokens")) == ("error", False, None)
    assert not recorder.events


def test_what_is_no_call_of_a_model_is_not_recorded(api: Any, recorder: Any, ask: Any) -> None:
    api.routes["GET", "/v1/models"] = {"object": "list", "data": []}
    api.routes["POST", "/v1/responses/input_tokens"] = {"object": "response.input_tokens", "input_tokens": 3}
    ask("responses.input_tokens.count", model="gpt-5", input="hi")
    with OpenAI(api_key="k", base_url=api.url, tailrace=recorder) as client:
        client.models.list()
    assert not recorder.events
