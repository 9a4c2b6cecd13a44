"""Cohere's usage: billed units beside counted tokens; the billed ones are the bill.

Source: ``usage`` of Chat v2 and ``meta.billed_units`` of Embed and Rerank in the API reference at docs.cohere.com.
"""

from typing import Any, Mapping

from tailrace_emitter.adapters.usage.counting import Counts, first, mapping, reported


def matches(usage: Mapping[str, Any]) -> bool:
    """Cohere's two holders."""
    return "billed_units" in usage or "tokens" in usage


def read(usage: Mapping[str, Any]) -> Counts:
    """Chat, Embed, Rerank, Classify."""
    billed = mapping(usage.get("billed_units"))
    if billed:  # cached tokens are counted with the others, not with the billed ones
        units = {
            "rerank_searches": first(billed, "search_units"),
            "classifications": first(billed, "classifications"),
            "images": first(billed, "images"),
        }
        return reported(units, input=first(billed, "input_tokens"), output=first(billed, "output_tokens"))
    counted = mapping(usage.get("tokens"))
    return reported(
        input=first(counted, "input_tokens"),
        output=first(counted, "output_tokens"),
        cache_read=first(usage, "cached_tokens"),
    )
