"""xAI's usage: OpenAI's, with the calls of its own tools, the sources of live search, and the cost in ticks.

Source: docs.x.ai, "Chat completions" (``usage``: ``num_sources_used``, ``cost_in_usd_ticks``: 1e-10 USD each), "Tools"
(``server_side_tool_usage_details``; an invocation is billed by its kind), "Voice" (``billable_audio_seconds``,
``input_text_messages``).
"""

from typing import Any, Mapping

from tailrace_emitter.adapters.usage import openai
from tailrace_emitter.adapters.usage.counting import Counts, amount, first, joined, mapping, reported

_TICKS = 10**10
_OWN = (
    "num_sources_used",
    "cost_in_usd_ticks",
    "server_side_tool_usage_details",
    "billable_audio_seconds",
    "input_text_messages",
)


def matches(usage: Mapping[str, Any]) -> bool:
    """Names that only xAI uses."""
    return any(name in usage for name in _OWN)


def read(usage: Mapping[str, Any]) -> Counts:
    """Chat completions, responses, voice."""
    counts = openai.read(usage)
    tools = mapping(usage.get("server_side_tool_usage_details"))
    units = {
        "web_searches": first(tools, "web_search_calls"),
        "social_searches": first(tools, "x_search_calls"),
        "code_executions": first(tools, "code_interpreter_calls"),
        "storage_searches": first(tools, "file_search_calls", "document_search_calls"),
        "search_sources": first(usage, "num_sources_used"),
        "audio_seconds": usage.get("billable_audio_seconds"),
        "input_text_messages": first(usage, "input_text_messages"),
    }
    ticks = amount(usage.get("cost_in_usd_ticks"))
    return joined(counts, reported(units, cost=None if ticks is None else ticks / _TICKS))
