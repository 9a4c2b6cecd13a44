"""LiteLLM's callback with the real LiteLLM: the payload's fields in ours, and nobody's address or key."""

import asyncio
import gc
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network for prices
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    litellm = pytest.importorskip("litellm")

from tailrace_emitter.adapters.litellm_fields import fields_of
from tailrace_emitter.adapters.usage import from_openai
from tailrace_emitter.instrumentation import instrument, uninstrument
from tailrace_emitter.litellm import TailraceLogger

# LiteLLM's own deprecations are not ours
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def callbacks() -> Iterator[None]:
    before = list(litellm.callbacks)
    yield
    litellm.callbacks = before
    for name in ("success_callback", "failure_callback", "_async_success_callback", "_async_failure_callback"):
        setattr(litellm, name, [c for c in getattr(litellm, name) if not isinstance(c, TailraceLogger)])
    # LiteLLM leaves an event loop open: let it go here, where warnings are ignored, not in a later test
    asyncio.set_event_loop(None)
    gc.collect()


def wait_for(recorder: Any, count: int) -> None:
    """LiteLLM calls back from a thread pool of its own."""
    import time

    for _ in range(500):
        if len(recorder.events) >= count:
            return
        time.sleep(0.02)


def answer_of(exchanges: Any) -> Any:
    return next(
        e
        for e in exchanges
        if e["provider"] == "openai"
        and e["endpoint"].endswith("/chat/completions")
        and e["response_kind"] == "json"
        and e["status"] == 200
        and e["response_body"].get("usage")
    )


def test_a_call_through_litellm_is_one_event_with_the_recorded_tokens(
    exchanges: Any, provider: Any, recorder: Any, callbacks: None
) -> None:
    exchange = answer_of(exchanges)
    provider.answers = [exchange]
    litellm.callbacks = [TailraceLogger(recorder)]
    litellm.completion(
        model="openai/gpt-4o-mini",
        messages=[{"role": "user", "content": "hello"}],
        api_base=provider.url,
        api_key="sk-test-canary-key-000000",
        temperature=0.5,
    )
    wait_for(recorder, 1)
    (event,) = recorder.events
    told = from_openai(exchange["response_body"]["usage"])
    assert {k: event["tokens"][k] for k in ("input", "output")} == {k: told[k] for k in ("input", "output")}
    assert event["provider"] == "openai"
    assert event["host"].startswith("127.0.0.1")
    assert event["latency"]["total_ms"] > 0
    assert event["content"]["output"] == exchange["response_body"]["choices"][0]["message"]["content"]
    assert "canary" not in json.dumps(event)


def test_a_failure_through_litellm_is_an_error_event(provider: Any, recorder: Any, callbacks: None) -> None:
    provider.answers = [
        {"status": 401, "response_body": {"error": {"message": "no", "code": "x"}}, "response_kind": "json"}
    ]
    litellm.callbacks = [TailraceLogger(recorder)]
    with pytest.raises(litellm.AuthenticationError):
        litellm.completion(
            model="openai/gpt-4o-mini",
            messages=[{"role": "user", "content": "hi"}],
            api_base=provider.url,
            api_key="k",
            max_retries=0,
        )
    wait_for(recorder, 1)
    (event,) = recorder.events
    assert event["status"] == "error"
    assert event["error"]["type"] == "AuthenticationError"


def test_instrumented_twice_litellm_and_openai_still_make_one_event_each(
    exchanges: Any, provider: Any, recorder: Any, callbacks: None
) -> None:
    import openai

    provider.answers = [answer_of(exchanges)]
    request = openai.OpenAI.request
    instrument(recorder)
    instrument(recorder)
    try:
        with openai.OpenAI(api_key="k", base_url=provider.url) as client:
            client.chat.completions.create(model="m", messages=[])
        assert len(recorder.events) == 1
        litellm.completion(model="openai/gpt-4o-mini", messages=[], api_base=provider.url, api_key="k")
        wait_for(recorder, 2)
    finally:
        uninstrument()
    assert len(recorder.events) == 2
    assert openai.OpenAI.request is request
    with openai.OpenAI(api_key="k", base_url=provider.url) as client:
        client.chat.completions.create(model="m", messages=[])
    assert len(recorder.events) == 2


def test_addresses_key_hashes_and_user_agents_stay_out() -> None:
    payload = {
        "model": "gpt-4o",
        "status": "success",
        "requester_ip_address": "203.0.113.9",
        "user_agent": "canary-agent",
        "metadata": {
            "user_api_key_hash": "canary-hash",
            "requester_ip_address": "203.0.113.9",
            "user_api_key_team_id": "t",
        },
        "guardrail_information": [
            {"guardrail_name": "pii", "guardrail_mode": "pre_call", "guardrail_status": "success"}
        ],
        "startTime": 100.0,
        "endTime": 101.5,
        "completionStartTime": 100.4,
        "stream": True,
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "cache_hit": True,
        "saved_cache_cost": 0.01,
    }
    fields = fields_of(payload)
    assert "canary" not in json.dumps(fields)
    assert "203.0.113.9" not in json.dumps(fields)
    assert fields["latency_ms"] == 1500.0
    assert fields["ttft_ms"] == pytest.approx(400.0)
    assert fields["team"] == "t"
    assert fields["tokens"] == {"input": 3, "output": 4}
    assert fields["cache"] == {"kind": "exact", "saved": 0.01}
    assert fields["guardrails"] == [{"name": "pii", "stage": "input", "action": "pass"}]


def test_a_caller_who_gives_every_call_the_same_id_hides_none() -> None:
    """The proxy takes ``x-litellm-call-id`` from the caller; each hook of one call is still one event."""
    recorded: list[Any] = []

    class Recorder:
        def record(self, fields: Any, lazy: Any, context: Any) -> None:
            recorded.append(lazy({}))

    logger = TailraceLogger(Recorder())  # type: ignore[arg-type]
    for answer in ("chatcmpl-1", "chatcmpl-2"):
        kwargs = {"litellm_call_id": "mine", "standard_logging_object": {"id": answer, "status": "success"}}
        logger.log_success_event(kwargs, None, None, None)
        asyncio.run(logger.async_log_success_event(kwargs, None, None, None))
    assert len(recorded) == 2


_ONE_CALL = """
import asyncio, sys, litellm
from tailrace_emitter.litellm import TailraceLogger

litellm.callbacks = [TailraceLogger()]
asyncio.run(litellm.acompletion(model="openai/gpt-4o", messages=[{"role": "user", "content": "x"}], api_key="x",
                                api_base=sys.argv[1]))
"""


def test_a_call_at_the_end_of_an_event_loop_is_recorded_before_the_process_ends(provider: Any) -> None:
    """LiteLLM runs the callbacks of a loop that has ended when the process ends; the emitter closes after that."""
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
    provider.answers = [{"status": 200, "response_kind": "json", "response_body": body}]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAILRACE_")}
    command = [sys.executable, "-W", "ignore", "-c", _ONE_CALL, provider.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    # without an address of Kafka an event is counted as dropped: the count is that of the recorded events
    assert "dropped before: 1 not_configured" in done.stderr
