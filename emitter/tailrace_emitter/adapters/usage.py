"""Usage objects of the providers in our counting: input includes cached, output includes reasoning (schema.md 1.4)."""

from typing import Any, Dict, Mapping, Optional


def _mapping(value: Any) -> Mapping[str, Any]:
    if isinstance(value, Mapping):
        return value
    if value is None:
        return {}
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        try:
            dumped = dump(warnings=False)
        except TypeError:
            dumped = dump()
        return dumped if isinstance(dumped, Mapping) else {}
    return getattr(value, "__dict__", {})


def _count(value: Any) -> Optional[int]:
    """A plausible count; some gateways send floats, none may send booleans."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value < 0:
        return None
    return int(value)


def _first(holder: Mapping[str, Any], *names: str) -> Optional[int]:
    return next((c for c in (_count(holder.get(n)) for n in names) if c is not None), None)


def _said(**counts: Optional[int]) -> Dict[str, int]:
    return {name: count for name, count in counts.items() if count is not None}


def from_openai(usage: Any) -> Dict[str, int]:
    """Chat completions, responses and embeddings; OpenAI's totals already include their parts."""
    found = _mapping(usage)
    read = _mapping(found.get("prompt_tokens_details") or found.get("input_tokens_details"))
    wrote = _mapping(found.get("completion_tokens_details") or found.get("output_tokens_details"))
    return _said(
        input=_first(found, "prompt_tokens", "input_tokens"),
        output=_first(found, "completion_tokens", "output_tokens"),
        cache_read=_first(read, "cached_tokens"),
        cache_write=_first(read, "cache_write_tokens"),
        reasoning=_first(wrote, "reasoning_tokens"),
        audio_in=_first(read, "audio_tokens"),
        audio_out=_first(wrote, "audio_tokens"),
    )


def from_anthropic(usage: Any) -> Dict[str, int]:
    """Anthropic counts the cached parts beside ``input_tokens``; here they are inside."""
    found = _mapping(usage)
    read = _first(found, "cache_read_input_tokens")
    wrote = _first(found, "cache_creation_input_tokens")
    split = _mapping(found.get("cache_creation"))
    plain = _first(found, "input_tokens")
    parts = (plain, read, wrote)
    return _said(
        input=sum(p or 0 for p in parts) if any(p is not None for p in parts) else None,
        output=_first(found, "output_tokens"),
        cache_read=read,
        cache_write=wrote,
        cache_write_1h=_first(split, "ephemeral_1h_input_tokens"),
    )


def from_gemini(usage: Any) -> Dict[str, int]:
    """Gemini reports thoughts beside the candidates, and the cached part inside the prompt."""
    found = _mapping(usage)
    answer = _first(found, "candidates_token_count", "candidatesTokenCount")
    thoughts = _first(found, "thoughts_token_count", "thoughtsTokenCount")
    return _said(
        input=_first(found, "prompt_token_count", "promptTokenCount"),
        output=(answer or 0) + (thoughts or 0) if answer is not None or thoughts is not None else None,
        cache_read=_first(found, "cached_content_token_count", "cachedContentTokenCount"),
        reasoning=thoughts,
    )


def tokens_of(usage: Any) -> Dict[str, int]:
    """Whoever's usage object this is, in our counting."""
    found = _mapping(usage)
    apart = "cache_read_input_tokens" in found or "cache_creation_input_tokens" in found
    if apart and "prompt_tokens" not in found:
        return from_anthropic(found)
    if "prompt_token_count" in found or "promptTokenCount" in found:
        return from_gemini(found)
    return from_openai(found)
