"""Calls that end after their request: background responses and batches, each counted once, on who began it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

import tailrace_emitter as tailrace
from tailrace_emitter.adapters import openai_batches, openai_jobs
from tailrace_emitter.openai import AsyncOpenAI, OpenAI

TOKENS = {"input": 1000, "output": 200, "cache_read": 400, "reasoning": 150}
USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 400},
    "output_tokens": 200,
    "output_tokens_details": {"reasoning_tokens": 150},
    "total_tokens": 1200,
}
ASKED: dict[str, Any] = {"model": "gpt-5", "input": "hi", "background": True}


def response(status: str, response_id: str = "resp_1", **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"id": response_id, "object": "response", "created_at": 1_764_460_000, "status": status}
    found |= {"background": True, "model": "gpt-5-2025-08-07", "output": [], "parallel_tool_calls": True, "tools": []}
    found |= {"tool_choice": "auto", "temperature": 1.0, "instructions": "Be brief.", "usage": None}
    if status == "completed":
        content = [{"type": "output_text", "text": "The answer.", "annotations": []}]
        message = {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": content}
        found |= {"completed_at": 1_764_460_030, "output": [message], "usage": USAGE}
    return found | more


def terminal(event: str, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{event}", "sequence_number": 1, "response": response(event, **more)}


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test is a new process, as far as what it remembers goes."""
    yield
    for held in (openai_jobs._running, openai_jobs._ended, openai_batches._owners, openai_batches._recorded):
        held.clear()


@pytest.fixture
def client(api: Any, recorder: Any) -> Iterator[Any]:
    with OpenAI(api_key="k", base_url=api.url, max_retries=0, tailrace=recorder) as client:
        yield client


def another_process() -> None:
    openai_jobs._running.clear()
    openai_jobs._ended.clear()


def test_a_background_response_counts_once_although_it_is_seen_many_times(
    client: Any, api: Any, recorder: Any, sequence: Any
) -> None:
    api.routes["POST", "/v1/responses"] = response("queued")
    states = [response("queued"), response("in_progress"), response("completed")]
    api.routes["GET", "/v1/responses/resp_1"] = sequence(states)
    with tailrace.context(user="asks", tenant="acme"):
        client.responses.create(**ASKED)
    with tailrace.context(user="polls"):
        for _ in range(3):
            assert not recorder.events
            client.responses.retrieve("resp_1")
        client.responses.retrieve("resp_1")
    (event,) = recorder.events
    assert (event["user"], event["tenant"], event["model"]) == ("asks", "acme", "gpt-5")
    assert (event["tokens"], event["usage_reported"]) == (TOKENS, True)
    assert (event["finish_reason"], event["content"]["output"]) == ("stop", "The answer.")
    assert event["content"]["input"] == [{"role": "user", "text": "hi"}]
    assert event["latency"]["total_ms"] == 30_000
    assert event["ts"] == 1_764_460_000_000


def test_a_response_retrieved_by_two_other_processes_is_one_event_by_its_id(
    client: Any, api: Any, recorder: Any
) -> None:
    api.routes["GET", "/v1/responses/resp_1"] = response("completed")
    for user in ("first", "second"):
        with tailrace.context(user=user):
            client.responses.retrieve("resp_1")
            client.responses.retrieve("resp_1")
        another_process()
    first, second = recorder.events
    assert first["id"] == second["id"]
    assert (first["user"], first["model"], first["tokens"]) == ("first", "gpt-5-2025-08-07", TOKENS)
    assert first["content"]["system"] == "Be brief."


def test_an_answer_that_was_waited_for_is_not_counted_again_when_it_is_retrieved(
    client: Any, api: Any, recorder: Any
) -> None:
    api.routes["POST", "/v1/responses"] = response("completed", background=False)
    api.routes["GET", "/v1/responses/resp_1"] = response("completed", background=False)
    client.responses.create(model="gpt-5", input="hi")
    client.responses.retrieve("resp_1")
    another_process()
    client.responses.retrieve("resp_1")
    assert len(recorder.events) == 1


def test_a_cancelled_response_is_one_event(client: Any, api: Any, recorder: Any) -> None:
    api.routes["POST", "/v1/responses"] = response("queued")
    api.routes["POST", "/v1/responses/resp_1/cancel"] = response("cancelled")
    api.routes["GET", "/v1/responses/resp_1"] = response("cancelled")
    client.responses.create(**ASKED)
    client.responses.cancel("resp_1")
    client.responses.retrieve("resp_1")
    (event,) = recorder.events
    assert (event["status"], event["usage_reported"]) == ("cancelled", False)
    assert "tokens" not in event


def test_a_failed_response_is_an_error_and_a_failed_retrieve_is_nothing(
    client: Any, api: Any, recorder: Any, sequence: Any
) -> None:
    failed = response("failed", error={"code": "server_error", "message": "out of order"})
    api.routes["POST", "/v1/responses"] = response("queued")
    api.routes["GET", "/v1/responses/resp_1"] = sequence([(404, {"error": {"message": "not yet"}}), failed])
    client.responses.create(**ASKED)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_1")
    assert not recorder.events
    client.responses.retrieve("resp_1")
    (event,) = recorder.events
    assert event["error"] == {"type": "server_error", "code": "server_error", "message": "out of order"}


def test_a_background_stream_that_broke_off_is_counted_when_its_rest_is_read(
    client: Any, api: Any, recorder: Any
) -> None:
    begun = {"type": "response.created", "sequence_number": 0, "response": response("in_progress")}
    api.routes["POST", "/v1/responses"] = [begun]
    api.routes["GET", "/v1/responses/resp_1"] = [terminal("completed")]
    with tailrace.context(user="asks"):
        for _ in client.responses.create(**ASKED, stream=True):
            pass
    assert not recorder.events
    with tailrace.context(user="resumes"):
        for _ in client.responses.retrieve("resp_1", stream=True, starting_after=0):
            pass
    client.responses.retrieve("resp_1", stream=True).close()
    (event,) = recorder.events
    assert (event["user"], event["stream"], event["tokens"]) == ("asks", True, TOKENS)


def test_raw_and_asynchronous_requests_follow_a_response_too(api: Any, recorder: Any, sequence: Any) -> None:
    api.routes["POST", "/v1/responses"] = response("queued")
    states = [response("in_progress"), response("completed")]
    api.routes["GET", "/v1/responses/resp_1"] = sequence(states)

    async def run() -> None:
        async with AsyncOpenAI(api_key="k", base_url=api.url, tailrace=recorder) as client:
            with tailrace.context(user="asks"):
                await client.responses.create(**ASKED)
            await client.responses.with_raw_response.retrieve("resp_1")
            async with client.responses.with_streaming_response.retrieve("resp_1") as raw:
                assert (await raw.parse()).status == "completed"

    asyncio.run(run())
    (event,) = recorder.events
    assert (event["user"], event["tokens"]) == ("asks", TOKENS)


def test_the_memory_of_responses_is_bounded(client: Any, api: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(openai_jobs, "_MAX", 3)
    for i in range(5):
        api.routes["POST", "/v1/responses"] = response("queued", f"resp_{i}")
        client.responses.create(**ASKED)
    assert list(openai_jobs._running) == ["resp_2", "resp_3", "resp_4"]


# -- batches ------------------------------------------------------------------------------------------------


def line(number: int, body: dict[str, Any], status: int = 200, **more: Any) -> str:
    answer = {"status_code": status, "request_id": f"r{number}", "body": body}
    return json.dumps({"id": f"batch_req_{number}", "custom_id": f"mine-{number}", "response": answer, **more})


def output_file() -> str:
    chat = {"id": "c1", "object": "chat.completion", "created": 1_764_460_000, "model": "gpt-4o-2024-08-06"}
    chat["choices"] = [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}]
    chat["usage"] = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    vectors = {"object": "list", "model": "text-embedding-3-small", "data": [], "usage": {"prompt_tokens": 8}}
    refused = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}
    late: dict[str, Any] = {"response": None, "error": {"code": "batch_expired", "message": "not done in 24 hours"}}
    lines = [
        line(1, chat),
        line(2, response("completed")),
        line(3, vectors),
        line(4, refused, 400),
        line(5, {}, **late),
    ]
    return "\n".join(lines) + "\n"


def batch(status: str, **more: Any) -> dict[str, Any]:
    made = {"id": "batch_1", "object": "batch", "endpoint": "/v1/chat/completions", "input_file_id": "file-in"}
    return {**made, "completion_window": "24h", "created_at": 1, "status": status, **more}


def check_lines(events: list[dict[str, Any]]) -> None:
    assert [e["extra"]["custom_id"] for e in events] == [f"mine-{i}" for i in range(1, 6)]
    assert {e["service_tier"] for e in events} == {"batch"}
    chat, answer, vectors, refused, late = events
    assert (chat["op"], chat["model"], chat["tokens"]) == ("chat", "gpt-4o-2024-08-06", {"input": 1000, "output": 500})
    assert (chat["content"]["output"], chat["finish_reason"], chat["response_id"]) == ("Hello.", "stop", "c1")
    assert (answer["content"]["output"], answer["tokens"]) == ("The answer.", TOKENS)
    assert (vectors["op"], vectors["tokens"]) == ("embeddings", {"input": 8})
    assert refused["error"] == {
        "type": "invalid_request_error",
        "code": "context_length_exceeded",
        "message": "too long",
    }
    assert (late["status"], late["error"]["code"], late["usage_reported"]) == ("error", "batch_expired", False)


def test_each_line_of_a_batch_counts_once_on_who_made_the_batch(client: Any, api: Any, recorder: Any) -> None:
    api.routes["POST", "/v1/batches"] = batch("validating")
    api.routes["GET", "/v1/batches/batch_1"] = batch("completed", output_file_id="file-out")
    api.routes["GET", "/v1/files/file-out/content"] = output_file()
    with tailrace.context(user="asks"):
        client.batches.create(input_file_id="file-in", endpoint="/v1/chat/completions", completion_window="24h")
    with tailrace.context(user="reads"):
        client.batches.retrieve("batch_1")
        assert not recorder.events
        for _ in range(2):
            assert client.files.content("file-out").text == output_file()
    check_lines(recorder.events)
    assert {e["user"] for e in recorder.events} == {"asks"}


def test_a_batch_read_in_pieces_or_by_another_process_has_the_same_ids(api: Any, recorder: Any) -> None:
    api.routes["GET", "/v1/files/file-out/content"] = output_file()

    async def run() -> None:
        async with AsyncOpenAI(api_key="k", base_url=api.url, tailrace=recorder) as client:
            with tailrace.context(user="reads"):
                async with client.files.with_streaming_response.content("file-out") as raw:
                    assert b"".join([piece async for piece in raw.iter_bytes(7)]).decode() == output_file()
            openai_batches._recorded.clear()
            await client.files.content("file-out")

    asyncio.run(run())
    check_lines(recorder.events[:5])
    assert [e["id"] for e in recorder.events[:5]] == [e["id"] for e in recorder.events[5:]]
    assert {e["user"] for e in recorder.events[:5]} == {"reads"}


def test_other_files_are_no_calls(client: Any, api: Any, recorder: Any) -> None:
    asks = {"custom_id": "mine", "method": "POST", "url": "/v1/chat/completions", "body": {"tools": [{"response": 1}]}}
    for text in (json.dumps(asks), "a,b\n1,2\n", "", '{"custom_id": '):
        api.routes["GET", "/v1/files/file-x/content"] = text
        assert client.files.content("file-x").text == text
    assert not recorder.events


def test_a_long_output_file_is_recorded_whole(client: Any, api: Any, recorder: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(openai_batches, "AT_ONCE", 3)
    api.routes["GET", "/v1/files/file-out/content"] = output_file()
    client.files.content("file-out")
    for thread in threading.enumerate():
        if thread.name == "tailrace-batch":
            thread.join(10)
    check_lines(recorder.events)
