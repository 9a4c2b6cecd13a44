"""LiteLLM: streams that the app leaves, usage that LiteLLM counts itself, and moderation, which has no callback."""

import asyncio
import gc
import json
import os
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network for prices
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    litellm = pytest.importorskip("litellm")

from contract_harness.drivers import DRIVERS, SPOKEN, sse

import tailrace_emitter as tailrace
from tailrace_emitter.adapters import litellm as adapter
from tailrace_emitter.adapters.litellm_fields import fields_of, reports_usage
from tailrace_emitter.adapters.litellm_streams import left_at_exit

pytestmark = pytest.mark.filterwarnings("ignore")  # LiteLLM's own deprecations
LISTS = ("callbacks", "success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback")


@pytest.fixture
def recorded(recorder: Any, provider: Any) -> Iterator[Any]:
    kept = {name: list(getattr(litellm, name)) for name in LISTS}
    DRIVERS["litellm"].start(provider.url)
    gc.collect()  # streams of other tests
    adapter._contexts.clear()
    tailrace.instrument(recorder)
    yield recorder
    tailrace.uninstrument()
    for name, former in kept.items():
        setattr(litellm, name, former)
    asyncio.set_event_loop(None)
    gc.collect()


def events(recorder: Any, count: int) -> list[dict[str, Any]]:
    until = time.monotonic() + 20
    while len(recorder.events) < count and time.monotonic() < until:
        time.sleep(0.01)
        gc.collect()  # a thread of LiteLLM may have held a stream until now
    assert len(recorder.events) == count
    found: list[dict[str, Any]] = recorder.events
    return found


def answer(body: Any) -> dict[str, Any]:
    return {"status": 200, "response_kind": "sse" if isinstance(body, str) else "json", "response_body": body}


def test_a_stream_that_is_dropped_is_on_who_asked_and_leaves_nothing_behind(recorded: Any, provider: Any) -> None:
    driver = DRIVERS["litellm"]
    provider.answers = [answer(driver.chunks())]
    with tailrace.context(user="asks", tenant="t1"):
        stream = driver.stream("hello")
    next(stream)
    with tailrace.context(user="other"):
        del stream
    (event,) = events(recorded, 1)
    assert (event["user"], event["tenant"], event["status"], event["stream"]) == ("asks", "t1", "cancelled", True)
    assert (event["model"], event["provider"]) == ("gpt-4o", "openai")
    assert event["content"]["output"] == SPOKEN
    assert event["content"]["input"][-1]["text"] == "hello"
    assert event["usage_reported"] is False
    assert "tokens" not in event
    assert event.get("cost_reported") is None
    assert not adapter._contexts


@pytest.mark.extended
def test_an_asynchronous_stream_is_recorded_when_it_is_closed_and_not_again(recorded: Any, provider: Any) -> None:
    driver = DRIVERS["litellm"]
    provider.answers = [answer(driver.chunks())]

    async def part() -> None:
        stream = await driver.stream_async("hello")
        assert (await anext(stream)) is not None
        await stream.aclose()
        (event,) = events(recorded, 1)
        assert event["status"] == "cancelled"
        del stream
        gc.collect()
        await driver.close()

    asyncio.run(part())
    events(recorded, 1)
    assert not adapter._contexts


@pytest.mark.extended
@pytest.mark.parametrize("whole", [False, True])
def test_a_stream_of_the_router_counts_once_though_it_hands_on_another(
    whole: bool, recorded: Any, provider: Any
) -> None:
    """LiteLLM's router, which its proxy calls, wraps the stream in one more that has the same facts."""
    provider.answers = [answer(DRIVERS["litellm"].chunks())]
    parameters = {"model": "openai/gpt-4o", "api_key": "k", "api_base": f"{provider.url}/v1"}
    router = litellm.Router(model_list=[{"model_name": "ours", "litellm_params": parameters}])

    async def read() -> None:
        asked = {"messages": [{"role": "user", "content": "hello"}], "stream": True}
        stream = await router.acompletion(model="ours", **asked)
        assert (await anext(stream)) is not None
        if whole:
            async for _ in stream:
                pass
            await asyncio.sleep(0)
        await stream.aclose()
        del stream
        gc.collect()
        events(recorded, 1)
        await DRIVERS["litellm"].close()

    asyncio.run(read())
    adapter._record_open_streams()
    (event,) = events(recorded, 1)
    assert event.get("status") == (None if whole else "cancelled")
    assert not adapter._contexts


@pytest.mark.extended
def test_a_stream_whose_last_chunk_was_read_is_no_cancelled_one(recorded: Any, provider: Any) -> None:
    """The app stops at the finish reason, as many do; LiteLLM makes no callback for that."""
    driver = DRIVERS["litellm"]
    provider.answers = [answer(driver.chunks())]
    for chunk in (stream := driver.stream("hello")):
        if chunk.choices[0].finish_reason:
            break
    del stream, chunk
    (event,) = events(recorded, 1)
    assert event.get("status") is None
    assert (event["finish_reason"], event["content"]["output"]) == ("stop", f"{SPOKEN} and more")
    assert "tokens" not in event, "the chunk with the usage comes after the finish reason, and was not read"


@pytest.mark.extended
def test_a_stream_that_is_read_to_its_end_is_one_event_also_when_it_is_freed(recorded: Any, provider: Any) -> None:
    driver = DRIVERS["litellm"]
    provider.answers = [answer(driver.chunks())]
    assert len(list(driver.stream("hello"))) >= 3
    gc.collect()
    (event,) = events(recorded, 1)
    assert event.get("status") is None
    assert event["usage_reported"] is True


def test_a_stream_that_is_open_at_the_end_of_the_process_is_recorded_once(recorded: Any, provider: Any) -> None:
    driver = DRIVERS["litellm"]
    provider.answers = [answer(driver.chunks())]
    stream = driver.stream("hello")
    next(stream)
    left_at_exit(adapter._record_left)
    left_at_exit(adapter._record_left)
    (event,) = events(recorded, 1)
    assert event["status"] == "cancelled"
    del stream
    gc.collect()
    events(recorded, 1)


def begun_response() -> str:
    created = {"id": "r1", "object": "response", "created_at": 1, "model": "gpt-4o", "output": [], "tools": []}
    created |= {"status": "in_progress", "parallel_tool_calls": True, "tool_choice": "auto", "error": None}
    delta = {"item_id": "i", "output_index": 0, "content_index": 0, "delta": SPOKEN, "sequence_number": 1}
    return sse(
        {"type": "response.created", "response": created, "sequence_number": 0},
        {"type": "response.output_text.delta", **delta},
        {"type": "response.output_text.delta", **delta, "delta": " and more"},
    )


@pytest.mark.extended
def test_a_response_of_the_router_that_is_left_counts_once(recorded: Any, provider: Any) -> None:
    provider.answers = [answer(begun_response())]
    parameters = {"model": "openai/gpt-4o", "api_key": "k", "api_base": provider.url}
    router = litellm.Router(model_list=[{"model_name": "ours", "litellm_params": parameters}], num_retries=0)

    async def read() -> None:
        stream = await router.aresponses(model="ours", input="hello", stream=True)
        await anext(stream)
        await anext(stream)
        await stream.aclose()
        del stream
        gc.collect()

    asyncio.run(read())
    gc.collect()
    adapter._record_open_streams()
    (event,) = events(recorded, 1)
    assert (event["status"], event["content"]["output"]) == ("cancelled", SPOKEN)
    assert not adapter._contexts


@pytest.mark.extended
def test_a_stream_of_a_response_that_is_dropped_is_cancelled(recorded: Any, provider: Any) -> None:
    provider.answers = [answer(begun_response())]
    with tailrace.context(user="asks"):
        stream = litellm.responses(
            model="openai/gpt-4o", input="hello", stream=True, api_base=provider.url, api_key="k", max_retries=0
        )
    next(stream)
    next(stream)
    del stream
    (event,) = events(recorded, 1)
    assert (event["status"], event["user"], event["content"]["output"]) == ("cancelled", "asks", SPOKEN)
    assert "tokens" not in event
    assert not adapter._contexts


MODERATED = {
    "id": "modr-1",
    "model": "omni-moderation-latest",
    "results": [{"flagged": True, "categories": {"violence": True}, "category_scores": {"violence": 0.9}}],
}


@pytest.mark.representatives(1)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_moderation_is_one_event_on_who_asked(recorded: Any, provider: Any, asynchronous: bool) -> None:
    """The OpenAI client below LiteLLM is recorded as well: that counts nothing twice."""
    provider.answers = [answer(MODERATED)]
    asked: Any = {"input": "hello", "model": "omni-moderation-latest", "api_base": provider.url, "api_key": "k"}

    async def ask() -> None:
        await litellm.amoderation(**asked)
        await asyncio.sleep(0.1)

    with tailrace.context(user="asks"):
        asyncio.run(ask()) if asynchronous else litellm.moderation(**asked)
    (event,) = events(recorded, 1)
    assert (event["op"], event["user"], event["model"]) == ("moderation", "asks", "omni-moderation-latest")
    assert "tokens" not in event


def payload(**more: Any) -> dict[str, Any]:
    """What LiteLLM hands on of a call whose tokens it counted itself."""
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    made = {"call_type": "completion", "model": "gpt-4o", "status": "success", "response_cost": 0.01}
    return {**made, "prompt_tokens": 9, "completion_tokens": 3, "metadata": {"usage_object": usage}, **more}


def raw(**more: Any) -> str:
    return json.dumps({"id": "c1", "choices": [{"message": {"content": 'say "usage": {1}'}}], **more})


@pytest.mark.parametrize(
    ("told", "reported"),
    [
        (raw(), False),
        (raw(usage=None), False),
        (raw(usage={"prompt_tokens": 9}), True),
        (raw(usageMetadata={"promptTokenCount": 9}), True),
        (raw(meta={"billed_units": {"input_tokens": 9}}), True),
        (raw(prompt_eval_count=9, eval_count=3), True),
        (raw(max_output_tokens=9, usage=None), False),
        (json.dumps({"generation": "hi", "prompt_token_count": 9, "generation_token_count": 3}), True),
        (json.dumps({"inputTextTokenCount": 9, "results": []}), True),
        ("", True),
        (b"audio", True),
        (None, True),
    ],
)
def test_tokens_that_litellm_counted_itself_are_no_usage(told: Any, reported: bool) -> None:
    assert reports_usage(told) is reported
    fields = fields_of(payload(), told)
    assert fields["usage_reported"] is reported
    assert ("tokens" in fields, "cost_reported" in fields) == (reported, reported)


def test_what_the_proxy_adds_to_a_request_stays_out_and_its_alias_does_not_hide_the_model() -> None:
    """As LiteLLM's proxy 1.106.2 hands it on (recorded from a real process)."""
    meta = {
        "usage_object": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5},
        "requester_metadata": {
            "headers": {"cookie": "canary-cookie", "user-agent": "curl"},
            "used_client_oauth_token": False,
            "plan": "pro",
        },
    }
    answered = {"object": "list", "model": "emb", "data": [], "usage": meta["usage_object"]}
    made = payload(
        call_type="aembedding",
        model="text-embedding-3-small",
        model_group="emb",
        metadata=meta,
        response=answered,
        request_tags=["User-Agent: curl", "User-Agent: curl/8", "mine"],
    )
    fields = fields_of(made)
    assert (fields["model"], fields["response_model"]) == ("emb", "text-embedding-3-small")
    assert fields["extra"] == {"plan": "pro"}
    assert fields["tags"] == ["mine"]
    assert "canary" not in str(fields)


@pytest.mark.parametrize(("model", "cost"), [("tts-1", 0.015), ("gpt-4o-mini-tts", None)])
def test_a_cost_of_speech_that_leaves_out_the_audio_is_no_cost(model: str, cost: float | None) -> None:
    """LiteLLM prices ``gpt-4o-mini-tts`` by the text alone; most of its bill is the audio, which nothing counts."""
    payload = {"call_type": "speech", "status": "success", "model": model, "custom_llm_provider": "openai"}
    fields = fields_of({**payload, "response_cost": 0.015, "prompt_tokens": 0, "completion_tokens": 0})
    assert (fields.get("cost_reported"), fields["usage_reported"], fields.get("tokens")) == (cost, False, None)


def test_a_cached_answer_keeps_its_usage_whatever_the_raw_answer_holds() -> None:
    assert fields_of(payload(cache_hit=True), raw())["tokens"] == {"input": 9, "output": 3}
