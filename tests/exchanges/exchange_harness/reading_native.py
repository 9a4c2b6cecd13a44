"""An independent reading of recorded exchanges with Anthropic's API and with Google's, as ``reading.py`` does OpenAI's.

Plain JSON paths, nothing of the product.

- Messages, their streams, errors, ``server_tool_use``, ``service_tier``: the API reference at docs.anthropic.com.
- ``generateContent`` and its streams, ``promptFeedback``, ``modelVersion``, embeddings: ai.google.dev/api; ``predict``
  and ``trafficType``: the reference of Vertex AI. Grounding with Google Search is billed by the prompt before
  Gemini 3, since then by the query, without empty ones; with Google Maps by the prompt: ai.google.dev/pricing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from exchange_harness import native
from exchange_harness.reading import Read, at, events

Json = Mapping[str, Any]
_MODALITIES = {"IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video", 2: "image", 5: "image", 3: "video"}
"""By word, and by number where the client of the recording asks for numbers."""
_TRAFFIC = {"ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority", "PROVISIONED_THROUGHPUT": "provisioned"}
_FINISHED = {1: "STOP", 2: "MAX_TOKENS"}


def read(op: str, exchange: Json, model: str) -> Read:
    """Read an exchange of Anthropic's or Google's, streamed or not, answered or refused."""
    body = exchange["response_body"]
    frames = list(events(body)) if isinstance(body, str) else body if isinstance(body, list) else [body]
    google = exchange["provider"] in ("gemini", "vertex")
    if exchange["status"] >= 400:
        return Read(op, model, status="error", error_code=at(body, "error", "status" if google else "type"))
    return _google(op, model, frames) if google else _anthropic(op, model, frames)


def _anthropic(op: str, model: str, frames: list[Json]) -> Read:
    """The message of an answer is the answer, of a stream that of its first event with what later events change."""
    message: dict[str, Any] = {}
    usage: dict[str, Any] = {}
    for frame in frames:
        for part in (at(frame, "message") or {}, at(frame, "delta") or {}, {} if "delta" in frame else frame):
            names = ("id", "model", "stop_reason")
            message |= {name: part[name] for name in names if part.get(name) is not None}
        for told in (at(frame, "message", "usage"), at(frame, "usage")):
            usage |= {name: value for name, value in (told or {}).items() if value is not None}
    failed = next((frame["error"] for frame in frames if frame.get("type") == "error"), None)
    return Read(
        op,
        model,
        response_model=message.get("model"),
        finish_reason=message.get("stop_reason"),
        status="error" if failed else "ok",
        error_code=failed["type"] if failed else None,
        service_tier=usage.get("service_tier"),
        response_id=message.get("id"),
        tokens=native.anthropic(usage) if usage else {},
        units=_anthropic_units(usage),
    )


def _anthropic_units(usage: Json) -> dict[str, int]:
    """Searches, and the inferences that ``iterations`` has and the totals beside do not: advisor, compaction."""
    units = Counter({"web_searches": at(usage, "server_tool_use", "web_search_requests") or 0})
    for one in usage.get("iterations") or ():
        if name := {"advisor_message": "advisor", "compaction": "compaction"}.get(one["type"]):
            cached = one["cache_read_input_tokens"] + one["cache_creation_input_tokens"]
            units[f"{name}_input_tokens"] += one["input_tokens"] + cached
            units[f"{name}_output_tokens"] += one["output_tokens"]
    return {name: count for name, count in units.items() if count}


def _google(op: str, model: str, frames: list[Json]) -> Read:
    last: dict[str, Any] = {}
    for frame in frames:
        last |= {name: value for name, value in frame.items() if value is not None}
    candidates = [one for frame in frames for one in frame.get("candidates") or ()]
    first = [one for one in candidates if not one.get("index")]
    reasons = [one["finishReason"] for one in first if one.get("finishReason") is not None]
    blocked = at(last, "promptFeedback", "blockReason")
    usage = last.get("usageMetadata") or {}
    counted = [at(one, "embeddings", "statistics", "token_count") for one in last.get("predictions") or ()]
    return Read(
        op,
        model,
        response_model=last.get("modelVersion"),
        finish_reason=_FINISHED.get(reasons[-1], reasons[-1]) if reasons else blocked,
        status="blocked" if blocked else "ok",
        service_tier=usage.get("serviceTier") or _TRAFFIC.get(usage.get("trafficType", "")),
        response_id=last.get("responseId"),
        tokens=native.gemini(usage) if usage else {"input_tokens": sum(counted)} if counted else {},
        units={**_modal(usage), **_grounded(first, str(last.get("modelVersion") or model))},
    )


def _modal(usage: Json) -> dict[str, int]:
    """Tokens of images, pages and video: of the prompt, of the answer, of the cached part."""
    units: dict[str, int] = {}
    names = {
        "promptTokensDetails": "input_{}_tokens",
        "candidatesTokensDetails": "output_{}_tokens",
        "cacheTokensDetails": "cache_{}_read_tokens",
    }
    for part, name in names.items():
        for one in usage.get(part) or ():
            heard = "audio" if part.startswith("cache") and one["modality"] == "AUDIO" else None
            if kind := heard or _MODALITIES.get(one["modality"]):
                units[name.format(kind)] = units.get(name.format(kind), 0) + one.get("tokenCount", 0)
    return {name: count for name, count in units.items() if count}


def _grounded(candidates: list[Json], model: str) -> dict[str, int]:
    queries = [at(one, "groundingMetadata", "webSearchQueries") or () for one in candidates]
    asked = sum(len(set(each) - {""}) for each in queries)
    chunks = [chunk for one in candidates for chunk in at(one, "groundingMetadata", "groundingChunks") or ()]
    searches = min(asked, 1) if model.startswith(("gemini-1", "gemini-2")) else asked
    units = {"web_searches": searches, "maps_groundings": int(any("maps" in chunk for chunk in chunks))}
    return {name: count for name, count in units.items() if count}
