"""Usage of OpenAI, and of the providers with an API compatible with OpenAI's.

Source: the API reference of chat completions, responses and embeddings at platform.openai.com; for the others the
pages of their chat completions. Totals include their parts. ``total_tokens`` decides where reasoning is counted beside
the completion (xAI; Google's OpenAI-compatible endpoint), and whether the cached parts are counted beside the prompt,
as gateways do that hand on Anthropic's counts under OpenAI's names.
"""

from typing import Any, Mapping, Optional

from tailrace_emitter.adapters.usage.counting import (
    Counts,
    amount,
    first,
    mapping,
    output_by_total,
    reported,
    total,
)

INPUT = ("prompt_tokens", "input_tokens")
OUTPUT = ("completion_tokens", "output_tokens")
CACHE_READ = ("cached_tokens", "cache_read_tokens", "cache_read_input_tokens")
"""In the details of the input: OpenAI, xAI, OpenRouter, Groq."""
CACHE_READ_BESIDE = ("prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens", "cache_read_input_tokens")
"""Beside the totals: DeepSeek, Moonshot, Mistral, LiteLLM."""
CACHE_WRITE = ("cache_write_tokens", "cache_creation_tokens")
REASONING = ("reasoning_tokens", "thinking_tokens")


def matches(usage: Mapping[str, Any]) -> bool:
    """Every usage object that no other vendor matches."""
    return True


def _searches(usage: Mapping[str, Any]) -> Optional[int]:
    """Web searches: OpenRouter and LiteLLM name them as Anthropic does, Perplexity's responses by tool."""
    tools = mapping(usage.get("server_tool_use"))
    by_tool = mapping(mapping(usage.get("tool_calls_details")).get("search_web"))
    asked = mapping(usage.get("prompt_tokens_details"))
    return first({**asked, **tools, **by_tool}, "web_search_requests", "invocation")


def _cost(usage: Mapping[str, Any]) -> Any:
    """Return OpenRouter's cost; with the caller's own key (BYOK) it is a fee, and the provider's cost is beside it."""
    cost = amount(usage.get("cost"))
    upstream = amount(mapping(usage.get("cost_details")).get("upstream_inference_cost"))
    if cost is None or not usage.get("is_byok"):
        return cost
    return None if upstream is None else cost + upstream


def _with_cached(
    input_tokens: Optional[int], output: Optional[int], whole: Optional[int], cached: int
) -> Optional[int]:
    """Return the input; with the cached parts where the total shows that they are counted beside it."""
    if input_tokens is None or not cached or whole != input_tokens + (output or 0) + cached:
        return input_tokens
    return input_tokens + cached


def read(usage: Mapping[str, Any]) -> Counts:
    """Chat completions, responses, embeddings."""
    asked = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    wrote = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    cached = mapping(asked.get("cached_tokens_details"))
    units = {
        "input_image_tokens": first(asked, "image_tokens"),
        "output_image_tokens": first(wrote, "image_tokens"),
        "input_video_tokens": first(asked, "video_tokens"),
        "output_video_tokens": first(wrote, "video_tokens"),
        "cache_audio_read_tokens": first(cached, "audio_tokens"),
        "cache_image_read_tokens": first(cached, "image_tokens"),
        "input_audio_seconds": first(usage, "prompt_audio_seconds"),
        "web_searches": _searches(usage),
        "maps_groundings": first(asked, "google_maps_grounding_requests"),
    }
    hours = mapping(asked.get("cache_creation_token_details") or usage.get("cache_creation"))
    input_tokens = first(usage, *INPUT)
    cache_read = first(asked, *CACHE_READ)
    if cache_read is None:
        cache_read = first(usage, *CACHE_READ_BESIDE)
    cache_write = first(asked, *CACHE_WRITE)
    if cache_write is None:
        cache_write = first(usage, "cache_creation_input_tokens")
    output, whole = first(usage, *OUTPUT), first(usage, "total_tokens")
    reasoning = first(wrote, *REASONING)
    if total(cache_read, cache_write) != reasoning:  # else the total does not show which of the two it is
        input_tokens = _with_cached(input_tokens, output, whole, total(cache_read, cache_write) or 0)
    return reported(
        units,
        cost=_cost(usage),
        input=input_tokens,
        output=output_by_total(output, input_tokens, whole),
        cache_read=cache_read,
        cache_write=cache_write,
        cache_write_1h=first(hours, "ephemeral_1h_input_tokens"),
        reasoning=reasoning,
        audio_in=first(asked, "audio_tokens"),
        audio_out=first(wrote, "audio_tokens"),
    )
