"""An independent reading of recorded exchanges with OpenAI's API and the APIs that follow it.

Plain JSON paths, written from the vendors' references. Nothing of the product is called, so that an error of the
product cannot repeat itself here. Absent stays absent (None), never 0.

- Chat completions, completions, embeddings, responses, images: the API reference at platform.openai.com/docs.
- ``x_groq.usage`` of Groq's last chunk: console.groq.com/docs/api-reference.
- ``prompt_cache_hit_tokens``: api-docs.deepseek.com. ``num_cached_tokens``: docs.mistral.ai/api.
- ``cost``: openrouter.ai/docs, "Usage Accounting".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Json = Mapping[str, Any]
TOKENS = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
    "audio_in_tokens",
    "audio_out_tokens",
)


@dataclass(frozen=True)
class Read:
    """What an exchange says of one call; names are those of the lake's columns."""

    op: str
    model: str
    response_model: str | None = None
    finish_reason: str | None = None
    status: str = "ok"
    error_code: str | None = None
    service_tier: str | None = None
    response_id: str | None = None
    cost_reported: float | None = None
    tokens: Mapping[str, int | None] = field(default_factory=dict)
    units: Mapping[str, int] = field(default_factory=dict)
    """Calls of hosted tools that are billed, by genai-prices' name of the unit."""


def events(body: str) -> Iterator[Json]:
    """Yield the JSON objects of a stream of server-sent events."""
    for line in body.splitlines():
        data = line.partition("data:")[2].strip() if line.startswith("data:") else ""
        if data.startswith("{"):
            yield json.loads(data)


def at(value: Any, *path: str | int) -> Any:
    """Return what lies at ``path``; None where a step is missing."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def read_openai(op: str, exchange: Json, model: str) -> Read:
    """Read an exchange of one of OpenAI's endpoints, streamed or not, answered or refused."""
    body = exchange["response_body"]
    if exchange["status"] >= 400:
        code = at(body, "error", "code")
        status = "blocked" if code == "content_filter" else "error"
        return Read(op, model, status=status, error_code=str(code if code is not None else exchange["status"]))
    if "/responses" in exchange["endpoint"]:
        return _response(model, _last_response(body) if isinstance(body, str) else body)
    found = _chat(op, model, _joined(list(events(body))) if isinstance(body, str) else body)
    return replace(found, units=_by_request(op, model, exchange))


def _by_request(op: str, model: str, exchange: Json) -> dict[str, int]:
    """Count what platform.openai.com/docs/pricing bills by the request: a search preview, images of DALL-E by size."""
    asked, body = exchange["request_body"], exchange["response_body"]
    if "search-preview" in model:
        return {"requests": 1}
    if op != "image_generation" or body.get("usage"):
        return {}
    size, quality = asked.get("size") or "1024x1024", "hd" if asked.get("quality") == "hd" else "standard"
    return {f"image_{quality}_{size}": len(body["data"])}


def _chat(op: str, model: str, body: Json) -> Read:
    failed = body.get("error")
    plain = op in ("chat", "text_completion")
    return Read(
        op,
        model,
        response_model=at(body, "model"),
        finish_reason=at(body, "choices", 0, "finish_reason"),
        status="ok" if not failed else "blocked" if at(failed, "code") == "content_filter" else "error",
        error_code=str(at(failed, "code")) if failed else None,
        service_tier=at(body, "service_tier") if plain else None,
        response_id=at(body, "id") if plain else None,
        cost_reported=at(body, "usage", "cost"),
        tokens=usage_tokens(at(body, "usage")),
    )


def _joined(chunks: list[Json]) -> Json:
    """Return the answer that chunks spell: the last value of each field, the first choice's last finish reason."""
    whole: dict[str, Any] = {}
    finish = None
    for chunk in chunks:
        if chunk.get("error"):
            whole["error"] = chunk["error"]
        whole |= {k: chunk[k] for k in ("id", "model", "service_tier", "usage") if chunk.get(k) is not None}
        if at(chunk, "x_groq", "usage"):
            whole["usage"] = at(chunk, "x_groq", "usage")
        for choice in chunk.get("choices") or ():
            if not choice.get("index"):
                finish = choice.get("finish_reason") or finish
    return {**whole, "choices": [{"finish_reason": finish}]}


def _last_response(body: str) -> Json:
    found = list(events(body))
    ends = [
        e["response"] for e in found if e["type"] in ("response.completed", "response.incomplete", "response.failed")
    ]
    begun = [e["response"] for e in found if isinstance(e.get("response"), dict)]
    whole: Json = (ends or begun or [{}])[-1]
    return whole


def _response(model: str, body: Json) -> Read:
    called = any(
        item.get("type") in ("function_call", "custom_tool_call", "mcp_call") for item in body.get("output") or ()
    )
    ended = {"completed": "tool_calls" if called else "stop"}
    reason = at(body, "incomplete_details", "reason") or ended.get(body.get("status", ""), body.get("status"))
    return Read(
        "chat",
        model,
        response_model=body.get("model"),
        finish_reason=reason,
        service_tier=body.get("service_tier"),
        response_id=body.get("id"),
        cost_reported=at(body, "usage", "cost"),
        tokens=usage_tokens(body.get("usage")),
        units=hosted_tools(body.get("output") or []),
    )


def hosted_tools(output: list[Json]) -> dict[str, int]:
    """Count what platform.openai.com/docs/pricing bills a call.

    Searches of the web (not opened pages), of files, containers of the code interpreter (each once), images.
    """
    done = [item for item in output if item.get("status") != "failed"]
    web = [item for item in done if item.get("type") == "web_search_call"]
    ran = {item.get("container_id") for item in done if item.get("type") == "code_interpreter_call"}
    counts = {
        "web_searches": sum((item.get("action") or {}).get("type", "search") == "search" for item in web),
        "storage_searches": sum(item.get("type") == "file_search_call" for item in done),
        "code_containers": len(ran),
        "image_generations": sum(item.get("type") == "image_generation_call" for item in done),
    }
    return {name: count for name, count in counts.items() if count}


def usage_tokens(usage: Any) -> dict[str, int | None]:
    """Read OpenAI's usage; a total above the sum of the parts is output that the parts leave out."""
    if not usage:
        return {}
    read = usage.get("prompt_tokens", usage.get("input_tokens"))
    wrote = usage.get("completion_tokens", usage.get("output_tokens"))
    total = usage.get("total_tokens")
    if None not in (read, wrote, total):
        wrote = max(wrote, total - read)
    asked = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    told = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    beside = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens", "cache_read_input_tokens")
    cached = [asked.get("cached_tokens"), *(usage.get(name) for name in beside)]
    return {
        "input_tokens": read,
        "output_tokens": wrote,
        "cache_read_tokens": next((c for c in cached if c is not None), None),
        "cache_write_tokens": asked.get("cache_write_tokens", usage.get("cache_creation_input_tokens")),
        "reasoning_tokens": told.get("reasoning_tokens"),
        "audio_in_tokens": asked.get("audio_tokens"),
        "audio_out_tokens": told.get("audio_tokens"),
    }
