"""Servers that speak OpenAI's API, asked by the real client at their own hosts: usage, provider, model and the bill.

Each usage object has the shape that its vendor documents or that was recorded from it. What is expected is written by
hand from the vendor's price list in USD a million tokens; the product computes it from the event.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

import tailrace_emitter as tailrace
from pipelines.decode import DuplicateWindow, decode
from pipelines.pricing import PriceBooks, default_book
from schemas.records import Records
from tailrace_emitter.openai import OpenAI

KAFKA_TIME = 1_795_287_600_000_000
"""2026-11-21T19:00:00Z in µs: DeepSeek's prices depend on the hour."""
Json = dict[str, Any]


class Case(NamedTuple):
    """What a vendor answers, and what is right."""

    host: str
    model: str
    usage: Json
    tokens: Json
    provider: str | None
    cost: str | None
    status: str = "computed"
    units: tuple[tuple[str, int], ...] = ()
    place: str = "usage"
    """Where a stream has the usage: ``usage`` of the last chunk, ``x_groq``, or ``choice``."""


def counts(prompt: int, completion: int, **more: Any) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion, **more}


CASES = {
    # docs.vllm.ai, "OpenAI-Compatible Server": prompt_tokens_details only with --enable-prompt-tokens-details
    "vllm": Case(
        "localhost:8000",
        "meta-llama/Llama-3.1-8B-Instruct",
        counts(1000, 200, prompt_tokens_details={"cached_tokens": 640}),
        {"input": 1000, "output": 200, "cache_read": 640},
        None,
        None,
        "unpriced",
    ),
    "vllm without details": Case(
        "localhost:8000",
        "meta-llama/Llama-3.1-8B-Instruct",
        counts(1000, 200, prompt_tokens_details=None),
        {"input": 1000, "output": 200},
        None,
        None,
        "unpriced",
    ),
    # recorded: ollama, /v1/chat/completions
    "ollama": Case(
        "localhost:11434", "llama3.2", counts(172, 88), {"input": 172, "output": 88}, None, None, "unpriced"
    ),
    # recorded: groq; prices 0.59 and 0.79
    "groq": Case(
        "api.groq.com",
        "llama-3.3-70b-versatile",
        counts(336, 96, queue_time=0.005, prompt_time=0.56, completion_time=0.57, total_time=1.14),
        {"input": 336, "output": 96},
        "groq",
        "0.000274080",
        place="x_groq",
    ),
    # docs.x.ai: reasoning_tokens are beside completion_tokens; 3, 0.75 (cached) and 15
    "xai": Case(
        "api.x.ai",
        "grok-4-0709",
        {
            **counts(32, 9),
            "total_tokens": 133,
            "prompt_tokens_details": {"text_tokens": 32, "cached_tokens": 6, "audio_tokens": 0, "image_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 92, "audio_tokens": 0},
            "num_sources_used": 0,
        },
        {"input": 32, "output": 101, "cache_read": 6, "reasoning": 92, "audio_in": 0, "audio_out": 0},
        "x_ai",
        "0.001597500",
    ),
    # platform.moonshot.ai: cached_tokens beside prompt_tokens; 0.6, 0.15 (cached) and 2.5
    "moonshot": Case(
        "api.moonshot.ai",
        "kimi-k2-0905-preview",
        counts(1000, 200, cached_tokens=512),
        {"input": 1000, "output": 200, "cache_read": 512},
        "moonshot_ai",
        "0.000869600",
        place="choice",
    ),
    # recorded: deepseek; at 19:00 UTC, when it costs half: 0.135, 0.035 (hit) and 0.55
    "deepseek": Case(
        "api.deepseek.com",
        "deepseek-chat",
        counts(
            563,
            116,
            prompt_cache_hit_tokens=512,
            prompt_cache_miss_tokens=51,
            prompt_tokens_details={"cached_tokens": 512},
        ),
        {"input": 563, "output": 116, "cache_read": 512},
        "deepseek",
        "0.000088605",
    ),
    # recorded: openrouter; the cost is in the answer, and the list has 0.15 and 0.6
    "openrouter": Case(
        "openrouter.ai",
        "openai/gpt-4o-mini",
        counts(
            900,
            69,
            cost=0.0001764,
            is_byok=False,
            cost_details={"upstream_inference_cost": 0.0001764},
            prompt_tokens_details={"cached_tokens": 0, "audio_tokens": 0, "cache_write_tokens": 0},
        ),
        {"input": 900, "output": 69, "cache_read": 0, "cache_write": 0, "audio_in": 0},
        "openrouter",
        "0.000176400",
    ),
    # recorded: together; 0.88 and 0.88
    "together": Case(
        "api.together.xyz",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        counts(46, 42, cached_tokens=0),
        {"input": 46, "output": 42, "cache_read": 0},
        "together_ai",
        "0.000077440",
    ),
    # docs.fireworks.ai; 0.2 and 0.2
    "fireworks": Case(
        "api.fireworks.ai",
        "accounts/fireworks/models/llama-v3p1-8b-instruct",
        counts(100, 50, prompt_tokens_details={"cached_tokens": 0}),
        {"input": 100, "output": 50, "cache_read": 0},
        "fireworks_ai",
        "0.000030000",
    ),
}


def whole(case: Case) -> Json:
    message = {"role": "assistant", "content": "Hello."}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": case.model, "choices": [choice]}
    return {**body, "usage": case.usage}


def stream(case: Case) -> str:
    """Server-sent events; the usage stands where the vendor puts it."""
    piece: Json = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": case.model}
    chunks: list[Json] = [
        {**piece, "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]}
        for text in ("Hel", "lo.")
    ]
    last: Json = {"index": 0, "delta": {}, "finish_reason": "stop"}
    if case.place == "choice":
        last["usage"] = case.usage
    chunks.append({**piece, "choices": [last]})
    if case.place == "x_groq":
        chunks[-1]["x_groq"] = {"id": "req", "usage": case.usage}
    elif case.place == "usage":
        chunks.append({**piece, "choices": [], "usage": case.usage})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def landed(event: Json) -> Json:
    """The row of an event."""
    seen = DuplicateWindow()
    seen.start(0, 0)
    event = {**event, "ts": KAFKA_TIME // 1000}
    value = json.dumps(event).encode()
    records = Records("llm.events", [0], [0], [KAFKA_TIME], [None], [value], [()], {0: (0, 1)})
    rows: list[Json] = decode(records, PriceBooks([default_book()]), seen, epoch=0, landed_at=0).calls.to_pylist()
    return rows[0]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("name", CASES)
def test_a_server_is_billed_as_its_vendor_bills(name: str, streamed: bool, proxied: Any, recorder: Any) -> None:
    case = CASES[name]
    body: Any = stream(case) if streamed else whole(case)
    kind = "sse" if streamed else "json"
    proxied.answers = [{"status": 200, "response_kind": kind, "response_body": body}]
    with OpenAI(base_url=f"http://{case.host}/v1", api_key="k", max_retries=0, tailrace=recorder) as client:
        asked: Any = {"model": case.model, "messages": [{"role": "user", "content": "Hi"}]}
        with tailrace.context(user="asks"):
            answer = client.chat.completions.create(**asked, stream=streamed)
            if streamed:
                list(answer)
    (event,) = recorder.events
    assert event["tokens"] == case.tokens
    assert (event["user"], event["usage_reported"], event["content"]["output"]) == ("asks", True, "Hello.")
    row = landed(event)
    assert (row["provider"], row["model"], row["response_model"]) == (case.provider, case.model, case.model)
    assert row["finish_reason"] == "stop"
    assert row["cost_status"] == case.status
    assert row["cost_usd"] == (Decimal(case.cost) if case.cost else None)
    if name == "openrouter":
        assert row["cost_reported_usd"] == Decimal("0.0001764")
    assert "cost_differs" not in (row["_flags"] or ())
    assert [(u["unit"], u["quantity"]) for u in row["units"] or ()] == list(case.units)
