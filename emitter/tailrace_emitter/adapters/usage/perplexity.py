"""Perplexity's usage: citations and reasoning are counted beside the completion, searches are billed by the query.

Source: "Create chat completion" in the API reference at docs.perplexity.ai (``usage``: ``citation_tokens``,
``num_search_queries``, ``reasoning_tokens``, ``cost``), and "Pricing" there: Sonar Deep Research bills citation tokens,
reasoning tokens and search queries; the fee a request of the other models depends on the model and the context size:
the lowest is one of every request, what a larger search costs beside it is a unit.
"""

from typing import Any, Mapping

from tailrace_emitter.adapters.usage import openai
from tailrace_emitter.adapters.usage.counting import Counts, first, joined, mapping, reported, total

_OWN = ("num_search_queries", "citation_tokens", "search_context_size")


def matches(usage: Mapping[str, Any]) -> bool:
    """Names that only Perplexity uses."""
    return any(name in usage for name in _OWN) and "completion_tokens" in usage


def read(usage: Mapping[str, Any]) -> Counts:
    """Chat completions."""
    counts = openai.read(usage)
    citations = first(usage, "citation_tokens")
    reasoning = counts.get("reasoning", first(usage, "reasoning_tokens"))
    parts = total(first(usage, "completion_tokens"), citations, reasoning)
    counts.update(reported(output=max(parts or 0, counts.get("output", 0)), reasoning=reasoning))
    size = usage.get("search_context_size")
    units = {
        "output_citation_tokens": citations,
        "web_searches": first(usage, "num_search_queries"),
        "search_context_medium": 1 if size == "medium" else None,
        "search_context_high": 1 if size == "high" else None,
    }
    cost = mapping(usage.get("cost")).get("total_cost")
    return joined(counts, reported(units, cost=cost))
