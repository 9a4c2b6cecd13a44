"""Amazon Bedrock's ``usage`` of Converse: camelCase, the cached parts beside ``inputTokens``.

Source: ``TokenUsage`` in the API reference of Amazon Bedrock Runtime. ``totalTokens`` is the sum of all four;
``cacheDetails`` (``CacheDetail``) splits what was written to the cache by its time to live.
"""

from typing import Any, Mapping

from tailrace_emitter.adapters.usage.counting import Counts, first, mapping, reported, total


def matches(usage: Mapping[str, Any]) -> bool:
    """Converse's names."""
    return "inputTokens" in usage or "outputTokens" in usage


def read(usage: Mapping[str, Any]) -> Counts:
    """Converse and ConverseStream."""
    cache_read = first(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    cache_write = first(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    lifetimes = usage.get("cacheDetails")
    long = [mapping(d) for d in lifetimes] if isinstance(lifetimes, (list, tuple)) else []
    return reported(
        input=total(first(usage, "inputTokens"), cache_read, cache_write),
        output=first(usage, "outputTokens"),
        cache_read=cache_read,
        cache_write=cache_write,
        cache_write_1h=total(*(first(d, "inputTokens") for d in long if d.get("ttl") == "1h")),
    )
