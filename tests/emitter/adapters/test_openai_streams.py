"""Streams of the OpenAI API that end early, break, or report usage in a place of their own."""

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest

import tailrace_emitter as tailrace
from tailrace_emitter.openai import AsyncOpenAI, OpenAI

CHAT = ("POST", "/v1/chat/completions")
RESPONSES = ("POST", "/v1/responses")
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
TOKENS = {"input": 1000, "output": 500}
BASE = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-1"}


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {**BASE, "choices": [{"index": index, "delta": delta, "finish_reason": finish}], **more}


LAST = {**BASE, "choices": [], "usage": USAGE}
HELLO = [chunk({"content": "Hel"}), chunk({"content": "lo."}), chunk({}, "stop"), LAST]


def streaming(api: Any, recorder: Any) -> OpenAI:
    return OpenAI(api_key="k", base_url=api.url, max_retries=0, tailrace=recorder)


def only(recorder: Any) -> dict[str, Any]:
    gc.collect()
    (event,) = recorder.events
    return dict(event)


def check_cancelled(event: dict[str, Any]) -> None:
    assert (event["status"], event["usage_reported"]) == ("cancelled", False)
    assert event["content"]["output"] == "Hel"
    assert "tokens" not in event
    assert "finish_reason" not in event
    assert event["latency"]["ttft_ms"] > 0


def closed(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="gpt-4o", messages=[], stream=True)
    next(iter(stream))
    stream.close()


def closed_below(client: OpenAI) -> None:
    stream = client.chat.completions.create(model="gpt-4o", messages=[], stream=True)
    next(iter(stream))
    stream.response.close()


def left_the_block(client: OpenAI) -> None:
    with client.chat.completions.create(model="gpt-4o", messages=[], stream=True) as stream:
        next(iter(stream))


def dropped(client: OpenAI) -> None:
    next(iter(client.chat.completions.create(model="gpt-4o", messages=[], stream=True)))
    gc.collect()


def left_the_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(model="gpt-4o", messages=[]) as stream:
        next(iter(stream))


@pytest.mark.parametrize("leave", [closed, closed_below, left_the_block, dropped, left_the_helper])
def test_a_stream_that_the_app_leaves_is_cancelled_with_what_was_received(
    leave: Callable[[OpenAI], None], api: Any, recorder: Any
) -> None:
    api.routes[CHAT] = HELLO
    with streaming(api, recorder) as client:
        leave(client)
    check_cancelled(only(recorder))


def test_an_asynchronous_stream_that_the_app_leaves_is_cancelled(api: Any, recorder: Any) -> None:
    api.routes[CHAT] = HELLO

    async def run() -> None:
        async with AsyncOpenAI(api_key="k", base_url=api.url, tailrace=recorder) as client:
            async with await client.chat.completions.create(model="gpt-4o", messages=[], stream=True) as stream:
                async for _ in stream:
                    break
            async with client.chat.completions.stream(model="gpt-4o", messages=[]) as helped:
                async for _ in helped:
                    break

    asyncio.run(run())
    gc.collect()
    assert len(recorder.events) == 2
    for event in recorder.events:
        check_cancelled(event)


def test_an_app_that_stops_at_the_last_word_has_its_whole_answer(api: Any, recorder: Any) -> None:
    api.routes[CHAT] = HELLO
    with streaming(api, recorder) as client:
        for got in client.chat.completions.create(model="gpt-4o", messages=[], stream=True):
            if got.choices[0].finish_reason:
                break
    event = only(recorder)
    assert "status" not in event
    assert (event["content"]["output"], event["finish_reason"], event["usage_reported"]) == ("Hello.", "stop", False)


def test_the_helpers_of_the_sdk_are_one_call_each(api: Any, recorder: Any) -> None:
    api.routes[CHAT] = HELLO
    with streaming(api, recorder) as client, client.chat.completions.stream(model="gpt-4o", messages=[]) as stream:
        assert stream.get_final_completion().choices[0].message.content == "Hello."
    event = only(recorder)
    assert (event["content"]["output"], event["tokens"], event["finish_reason"]) == ("Hello.", TOKENS, "stop")


def test_a_stream_with_an_error_in_it_keeps_what_was_received(api: Any, recorder: Any) -> None:
    api.routes[CHAT] = [HELLO[0], {"error": {"message": "overloaded", "code": "server_error"}}]
    with streaming(api, recorder) as client, pytest.raises(openai.APIError):
        list(client.chat.completions.create(model="gpt-4o", messages=[], stream=True))
    event = only(recorder)
    assert (event["status"], event["error"]["code"]) == ("error", "server_error")
    assert (event["content"]["output"], event["usage_reported"]) == ("Hel", False)


def test_two_choices_of_a_stream_are_put_together_each(api: Any, recorder: Any) -> None:
    pieces = [chunk({"content": "A"}), chunk({"content": "B"}, index=1), chunk({"content": "a"}, "stop")]
    api.routes[CHAT] = [*pieces, chunk({"content": "b"}, "length", index=1), LAST]
    with streaming(api, recorder) as client:
        list(client.chat.completions.create(model="gpt-4o", messages=[], n=2, stream=True))
    event = only(recorder)
    assert (event["content"]["output"], event["finish_reason"]) == ("Aa\n\nBb", "stop")
    assert event["tokens"] == TOKENS


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(chunk({}, "stop", x_groq={"id": "req", "usage": USAGE}), id="Groq"),
        pytest.param(
            {**BASE, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}, id="Moonshot"
        ),
        pytest.param(chunk({}, "stop", usage=USAGE), id="DeepSeek, Ollama, xAI"),
    ],
)
def test_usage_is_found_where_a_vendor_puts_it(last: dict[str, Any], api: Any, recorder: Any) -> None:
    api.routes[CHAT] = [*HELLO[:2], last]
    with streaming(api, recorder) as client:
        assert len(list(client.chat.completions.create(model="m", messages=[], stream=True))) == 3
    event = only(recorder)
    assert (event["tokens"], event["usage_reported"], event["content"]["output"]) == (TOKENS, True, "Hello.")


def tool(name: str, arguments: str, call_id: str | None = None, **more: Any) -> dict[str, Any]:
    return chunk({"tool_calls": [{"id": call_id, "function": {"name": name, "arguments": arguments}, **more}]})


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([tool("a", "{}", "1", index=0), tool("b", "{}", "2", index=0)], id="all are number 0"),
        pytest.param([tool("a", "{}", "1", index=0), tool("b", "{}", "2", index=1)], id="numbered"),
        pytest.param([tool("a", "{}", index=0), tool("b", "{}", index=1)], id="numbered without ids"),
        pytest.param([tool("a", "{}", index=0), tool("b", "{}", index=0)], id="neither ids nor numbers"),
        pytest.param(
            [tool("a", "{", "1", index=1), tool("", "}", index=1), tool("b", "{}", "2", index=2)], id="from 1"
        ),
    ],
)
def test_parallel_tools_are_told_apart(pieces: list[dict[str, Any]], api: Any, recorder: Any) -> None:
    api.routes[CHAT] = [*pieces, chunk({}, "tool_calls"), LAST]
    with streaming(api, recorder) as client:
        list(client.chat.completions.create(model="m", messages=[], stream=True))
    assert [(t["name"], t["args"]) for t in only(recorder)["tools"]] == [("a", "{}"), ("b", "{}")]


# -- responses ----------------------------------------------------------------------------------------------


def responding(*items: dict[str, Any], end: str | None = "completed") -> list[dict[str, Any]]:
    answer: dict[str, Any] = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5-1", "output": []}
    answer |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "in_progress"}
    found: list[dict[str, Any]] = [{"type": "response.created", "response": answer}, *items]
    if end:
        usage = {"input_tokens": 1000, "output_tokens": 500, "total_tokens": 1500}
        content = [{"type": "output_text", "text": "Hello.", "annotations": []}]
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}
        last = {**answer, "status": end, "output": [message], "usage": usage}
        found.append({"type": f"response.{end}", "response": last})
    return [{"sequence_number": i, **event} for i, event in enumerate(found)]


def text(delta: str, number: int = 0) -> dict[str, Any]:
    place = {"item_id": "m", "output_index": number, "content_index": 0, "logprobs": []}
    return {"type": "response.output_text.delta", "delta": delta, **place}


def arguments(delta: str, number: int) -> dict[str, Any]:
    return {"type": "response.function_call_arguments.delta", "delta": delta, "item_id": "f", "output_index": number}


OPENED = {"type": "message", "id": "m", "role": "assistant", "status": "in_progress", "content": []}
BEGUN = [
    {"type": "response.output_item.added", "output_index": 0, "item": OPENED},
    {
        "type": "response.content_part.added",
        "item_id": "m",
        "output_index": 0,
        "content_index": 0,
        "part": {"type": "output_text", "text": "", "annotations": []},
    },
]
CALL = {"type": "function_call", "id": "f", "call_id": "call_1", "name": "weather", "arguments": ""}


def test_a_response_that_the_app_leaves_is_cancelled_with_its_text_and_tools(api: Any, recorder: Any) -> None:
    added = {"type": "response.output_item.added", "output_index": 1, "item": CALL}
    api.routes[RESPONSES] = responding(text("Hel"), added, arguments('{"city', 1), arguments('": 1}', 1))
    with streaming(api, recorder) as client, client.responses.create(model="gpt-5", input="hi", stream=True) as stream:
        for event in stream:
            if event.type == "response.function_call_arguments.delta" and event.delta.endswith("}"):
                break
    found = only(recorder)
    assert (found["status"], found["usage_reported"], found["response_id"]) == ("cancelled", False, "resp_1")
    assert found["content"]["output"] == "Hel"
    assert found["tools"] == [{"name": "weather", "id": "call_1", "args": '{"city": 1}'}]
    assert "finish_reason" not in found
    assert "tokens" not in found


def test_a_response_whose_last_event_was_read_is_whole(api: Any, recorder: Any) -> None:
    api.routes[RESPONSES] = responding(*BEGUN, text("Hello."))
    with streaming(api, recorder) as client:
        for event in client.responses.create(model="gpt-5", input="hi", stream=True):
            if event.type == "response.completed":
                break
        with client.responses.stream(model="gpt-5", input="hi") as helped:
            assert helped.get_final_response().output_text == "Hello."
    gc.collect()
    assert len(recorder.events) == 2
    for found in recorder.events:
        assert "status" not in found
        assert (found["tokens"], found["finish_reason"]) == (TOKENS, "stop")
        assert found["content"]["output"] == "Hello."


def test_the_last_event_of_a_response_without_items_is_filled_from_those_before(api: Any, recorder: Any) -> None:
    events = responding(text("Hello."))
    events[-1]["response"]["output"] = []
    api.routes[RESPONSES] = events
    with streaming(api, recorder) as client:
        list(client.responses.create(model="gpt-5", input="hi", stream=True))
    event = only(recorder)
    assert (event["content"]["output"], event["tokens"]) == ("Hello.", TOKENS)


@pytest.mark.parametrize("way", ["raw", "streaming"])
def test_raw_streams_of_responses_hold_all_of_it(way: str, api: Any, recorder: Any) -> None:
    api.routes[RESPONSES] = responding(text("Hello."))
    with streaming(api, recorder) as client:
        if way == "raw":
            raw = client.responses.with_raw_response.create(model="gpt-5", input="hi", stream=True)
            assert len(list(raw.parse())) == 3
        else:
            with client.responses.with_streaming_response.create(model="gpt-5", input="hi", stream=True) as response:
                assert len([line for line in response.iter_lines() if line.startswith("data: {")]) == 3
    event = only(recorder)
    assert (event["content"]["output"], event["tokens"], event["finish_reason"]) == ("Hello.", TOKENS, "stop")


# -- once ---------------------------------------------------------------------------------------------------


def answer(**more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Hello."}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {**BASE, "object": "chat.completion", "choices": [choice], "usage": USAGE, **more}


def test_a_function_observed_around_a_recorded_client_has_no_usage_of_its_own(api: Any, recorder: Any) -> None:
    api.routes[CHAT] = answer()
    with streaming(api, recorder) as client:

        @recorder.observe
        def outer(question: str) -> Any:
            return inner(question)

        @recorder.observe
        def inner(question: str) -> Any:
            return client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": question}])

        recorder._sender.put = lambda kind, fields, **more: recorder._put(kind, fields)
        outer("hi")
    assert [e.get("tokens") for e in recorder.events] == [TOKENS, None, None]
    assert [e["model"] for e in recorder.events] == ["gpt-4o", "unknown", "unknown"]


def test_a_span_around_a_recorded_client_keeps_only_the_usage_of_another_model(api: Any, recorder: Any) -> None:
    api.routes[CHAT] = answer()
    recorder._sender.put = lambda kind, fields, **more: recorder._put(kind, fields)
    with streaming(api, recorder) as client:
        for model in ("openai/gpt-4o-2024-08-06", "claude-sonnet-4-5"):
            with recorder.span(model) as call:
                client.chat.completions.create(model="gpt-4o", messages=[])
                call.set(input_tokens=7, output_tokens=3, cost_reported=0.5, max_tokens=100)
    same, other = recorder.events[1], recorder.events[3]
    assert "tokens" not in same
    assert "cost_reported" not in same
    assert same["params"] == other["params"] == {"max_tokens": 100}
    assert (other["tokens"], other["cost_reported"]) == ({"input": 7, "output": 3}, 0.5)


def test_a_call_that_failed_leaves_the_usage_of_its_span_alone(api: Any, recorder: Any) -> None:
    api.routes[CHAT] = (400, {"error": {"message": "no"}})
    recorder._sender.put = lambda kind, fields, **more: recorder._put(kind, fields)
    with streaming(api, recorder) as client, tailrace.context(user="u"), recorder.span("gpt-4o") as call:
        with pytest.raises(openai.BadRequestError):
            client.chat.completions.create(model="gpt-4o", messages=[])
        call.usage = USAGE
    assert recorder.events[1]["tokens"] == TOKENS
    assert json.dumps(recorder.events[0]).count("tokens") == 0
