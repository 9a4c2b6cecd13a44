"""Usage objects of the APIs with a counting of their own: the product's normalisers beside an independent reading.

Only tokens are compared: these exchanges do not pass through a client here. Paths from the references of Anthropic's
messages (docs.anthropic.com), Google's generateContent (ai.google.dev/api), Bedrock's Converse (docs.aws.amazon.com),
Cohere's chat (docs.cohere.com) and Ollama's API (github.com/ollama/ollama).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from exchange_harness.product import priced
from exchange_harness.reading import TOKENS, events
from exchange_harness.tally import AT, Tally

from pipelines.pricing import PriceBooks, default_book

Json = Mapping[str, Any]
Tokens = dict[str, int | None]


def _sum(*parts: int | None) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def anthropic(usage: Json) -> Tokens:
    """``input_tokens`` has neither what was read from the cache nor what was written to it."""
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    return {
        "input_tokens": _sum(usage.get("input_tokens"), read, written),
        "output_tokens": usage.get("output_tokens"),
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "cache_write_1h_tokens": (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens"),
        "reasoning_tokens": (usage.get("output_tokens_details") or {}).get("thinking_tokens"),
    }


def gemini(usage: Json) -> Tokens:
    """Thoughts are beside the candidates, what tools put into the prompt is beside the prompt."""
    read = _sum(usage.get("promptTokenCount"), usage.get("toolUsePromptTokenCount"))
    wrote = _sum(usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount"))
    if None not in (read, wrote, usage.get("totalTokenCount")):
        wrote = max(wrote or 0, usage["totalTokenCount"] - read)
    audio = {
        name: _sum(*(d.get("tokenCount") for d in usage.get(part) or () if d.get("modality") == "AUDIO"))
        for name, part in (("in", "promptTokensDetails"), ("out", "candidatesTokensDetails"))
    }
    return {
        "input_tokens": read,
        "output_tokens": wrote,
        "cache_read_tokens": usage.get("cachedContentTokenCount"),
        "reasoning_tokens": usage.get("thoughtsTokenCount"),
        "audio_in_tokens": audio["in"],
        "audio_out_tokens": audio["out"],
    }


def converse(usage: Json) -> Tokens:
    """``inputTokens`` has no cached tokens; Nova's own answers call them counts."""
    read, written = (
        usage.get(f"cache{part}InputTokens", usage.get(f"cache{part}InputTokenCount")) for part in ("Read", "Write")
    )
    return {
        "input_tokens": _sum(usage.get("inputTokens"), read, written),
        "output_tokens": usage.get("outputTokens"),
        "cache_read_tokens": read,
        "cache_write_tokens": written,
    }


def cohere(usage: Json) -> Tokens:
    """Billed units are the bill."""
    billed = usage.get("billed_units") or {}
    return {"input_tokens": billed.get("input_tokens"), "output_tokens": billed.get("output_tokens")}


def ollama(answer: Json) -> Tokens:
    """Counts lie at the top of the answer; a prompt that is in the cache is not counted."""
    return {"input_tokens": answer.get("prompt_eval_count"), "output_tokens": answer.get("eval_count")}


def usage_of(exchange: Json) -> tuple[str, Json, Callable[[Json], Tokens]] | None:
    """Return (shape, usage object, how to read it); None where the exchange has none."""
    provider, end = exchange["provider"], exchange["endpoint"].rpartition("/")[2].rpartition(":")[2]
    body = exchange["response_body"]
    frames = list(events(body)) if isinstance(body, str) else body if isinstance(body, list) else [body or {}]
    frames = [frame for frame in frames if isinstance(frame, dict)]
    if provider == "anthropic" and end == "messages":
        started = [(frame.get("message") or {}).get("usage") or {} for frame in frames]
        usage = {k: v for held in (*started, *(f.get("usage") or {} for f in frames)) for k, v in held.items()}
        return ("messages", usage, anthropic) if usage else None
    last = next((f for f in reversed(frames) if f.get("usageMetadata")), None)
    if provider in ("gemini", "vertex") and last:
        return "generateContent", last["usageMetadata"], gemini
    last = next((f["usage"] for f in reversed(frames) if isinstance(f.get("usage"), dict)), None)
    if provider == "bedrock" and last and "inputTokens" in last:
        return "converse", last, converse
    if provider == "bedrock" and last and "input_tokens" in last:
        return "invoke", last, anthropic
    held = next((h for f in frames for h in (f.get("usage"), f.get("meta")) if h and h.get("billed_units")), None)
    if provider == "cohere" and held and "input_tokens" in held["billed_units"]:
        return "chat", held, cohere
    if provider == "ollama" and frames and "eval_count" in frames[-1]:
        return "chat", frames[-1], ollama
    return None


def usages(exchanges: Sequence[Json]) -> Tally:
    """Compare the tokens of every exchange with a usage object of its own counting."""
    tally = Tally()
    found = [(exchange, held) for exchange in exchanges if (held := usage_of(exchange))]
    calls = [{"model": e["model"] or "unknown", "usage": usage} for e, (_, usage, _) in found]
    rows = priced(calls, PriceBooks([default_book()]), AT)
    for (exchange, (shape, usage, read)), row in zip(found, rows, strict=True):
        tokens = read(usage)
        wrong = [(n, row[n], tokens.get(n)) for n in TOKENS if row[n] != tokens.get(n)]
        where = (str(exchange["provider"]), shape)
        tally.compared[where] += 1
        tally.agreed[where] += not wrong
        name = f"{exchange['source']} {exchange['exchange']}#{exchange['seq']}"
        tally.differences += [(name, where[0], *one) for one in wrong]
    return tally


def totals(tally: Tally) -> Counter[str]:
    """Return compared exchanges by provider."""
    found: Counter[str] = Counter()
    for (provider, _), count in tally.compared.items():
        found[provider] += count
    return found
