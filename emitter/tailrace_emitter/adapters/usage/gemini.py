"""Google's ``usageMetadata``: thoughts are counted beside the candidates, the cached part inside the prompt.

Source: ``GenerateContentResponse.UsageMetadata`` at ai.google.dev and in the reference of Vertex AI. What a tool put
into the prompt is counted beside it and billed as input. ``trafficType``: Vertex AI only. Grounding: "Grounding with
Google Search", pricing: models before Gemini 3 bill a prompt that was grounded, later ones every query; "we ignore the
empty web search queries when counting unique queries".
"""

from typing import Any, Dict, List, Mapping, Union

from tailrace_emitter.adapters.usage.counting import (
    Counts,
    by_modality,
    first,
    mapping,
    output_by_total,
    reported,
    total,
)

_IMAGE = ("IMAGE", "DOCUMENT")
"""Pages of a document are billed as images."""
_TIERS = {"ON_DEMAND_PRIORITY": "priority", "ON_DEMAND_FLEX": "flex", "PROVISIONED_THROUGHPUT": "provisioned"}


def matches(usage: Mapping[str, Any]) -> bool:
    """Google's names, in the spelling of its REST API and of its Python SDK."""
    return any(name in usage for name in ("promptTokenCount", "prompt_token_count", "candidatesTokenCount"))


def read(usage: Mapping[str, Any]) -> Counts:
    """Developer API and Vertex AI, streamed or not."""
    thoughts = first(usage, "thoughtsTokenCount", "thoughts_token_count")
    read_tokens = total(
        first(usage, "promptTokenCount", "prompt_token_count"),
        first(usage, "toolUsePromptTokenCount", "tool_use_prompt_token_count"),
    )
    answer = total(first(usage, "candidatesTokenCount", "candidates_token_count"), thoughts)
    cached = usage.get("cacheTokensDetails") or usage.get("cache_tokens_details")
    asked = usage.get("promptTokensDetails") or usage.get("prompt_tokens_details")
    wrote = usage.get("candidatesTokensDetails") or usage.get("candidates_tokens_details")
    units = {
        "input_image_tokens": by_modality(asked, *_IMAGE),
        "input_video_tokens": by_modality(asked, "VIDEO"),
        "output_image_tokens": by_modality(wrote, *_IMAGE),
        "output_video_tokens": by_modality(wrote, "VIDEO"),
        "cache_audio_read_tokens": by_modality(cached, "AUDIO"),
        "cache_image_read_tokens": by_modality(cached, *_IMAGE),
        "cache_video_read_tokens": by_modality(cached, "VIDEO"),
    }
    return reported(
        units,
        tier=_TIERS.get(str(usage.get("trafficType") or usage.get("traffic_type")).rpartition(".")[2]),
        input=read_tokens,
        output=output_by_total(answer, read_tokens, first(usage, "totalTokenCount", "total_token_count")),
        cache_read=first(usage, "cachedContentTokenCount", "cached_content_token_count"),
        reasoning=thoughts,
        audio_in=by_modality(asked, "AUDIO"),
        audio_out=by_modality(wrote, "AUDIO"),
    )


def grounding(candidates: Any, model: Any) -> List[Dict[str, Union[str, int]]]:
    """Return the ``units`` of Google Search in an answer: its queries, or 1 where the model bills by the prompt.

    Grounding with Google Maps is billed by the prompt.

    Args:
        candidates: those of the answer; each may have ``groundingMetadata`` with ``webSearchQueries``.
        model: its name; ``gemini-1`` and ``gemini-2`` bill by the prompt.
    """
    queries, maps = 0, False
    for candidate in candidates if isinstance(candidates, (list, tuple)) else ():
        found = mapping(candidate)
        metadata = mapping(found.get("groundingMetadata") or found.get("grounding_metadata"))
        asked = metadata.get("webSearchQueries") or metadata.get("web_search_queries")
        queries += len({str(q) for q in asked if q}) if isinstance(asked, (list, tuple)) else 0
        chunks = metadata.get("groundingChunks") or metadata.get("grounding_chunks")
        maps |= isinstance(chunks, (list, tuple)) and any(mapping(chunk).get("maps") for chunk in chunks)
    counted = {"web_searches": billed_searches(queries, model), "maps_groundings": int(maps)}
    return [{"unit": name, "quantity": number} for name, number in counted.items() if number]


def billed_searches(queries: int, model: Any) -> int:
    """Return how many searches ``queries`` of one answer are billed as; ``gemini-1`` and ``gemini-2`` bill a prompt."""
    name = str(model).rpartition("/")[2]
    return min(queries, 1) if name.startswith(("gemini-1", "gemini-2")) else queries
