"""Anthropic's usage: the cached parts are counted beside ``input_tokens``; our input includes them.

Source: "Prompt caching" and "Messages" in the API reference at docs.anthropic.com. ``server_tool_use``: "Web search
tool" and "Code execution tool" there bill a search by the request, and a fetch only by its tokens. ``service_tier``:
"Service tiers" (standard, priority, batch); ``speed``: "Fast mode", which has prices of its own. ``inference_geo``:
"Data residency"; inference in one region costs more than the rates of the price list, so it is a unit without a rate.
``iterations``: "Compaction" and "Advisor tool". The totals beside it leave out what these used. Each is an inference of
its own, with a price tier, cached parts and, for an advisor, a model of its own: units without a rate.
"""

import re
from typing import Any, Dict, Mapping, Optional

from tailrace_emitter.adapters.usage.counting import Counts, first, mapping, reported, total

_ANYWHERE = ("global", "not_available")
_ITERATION_UNITS = {"compaction": "compaction", "advisor_message": "advisor"}
"""Type of an iteration -> what the units of its tokens are called."""
_REGION = re.compile(r"[a-z]{2,12}$")


def matches(usage: Mapping[str, Any]) -> bool:
    """Cache counts or server tools under Anthropic's names, without OpenAI's total of the prompt."""
    own = ("cache_read_input_tokens", "cache_creation_input_tokens", "server_tool_use")
    return any(name in usage for name in own) and "prompt_tokens" not in usage


def read(usage: Mapping[str, Any]) -> Counts:
    """Messages, streamed or not; Bedrock's and Vertex's form of the same."""
    tools = mapping(usage.get("server_tool_use"))
    units = {
        "web_searches": first(tools, "web_search_requests"),
        "code_executions": first(tools, "code_execution_requests"),
        **_separate_inferences(usage),
    }
    region = usage.get("inference_geo")
    if isinstance(region, str) and _REGION.match(region) and region not in _ANYWHERE:
        units[f"inference_geo_{region}"] = 1
    return reported(
        units,
        tier="fast" if usage.get("speed") == "fast" else usage.get("service_tier"),
        input=_input(usage),
        output=first(usage, "output_tokens"),
        cache_read=first(usage, "cache_read_input_tokens"),
        cache_write=_written(usage),
        cache_write_1h=_one_hour(usage),
        reasoning=first(mapping(usage.get("output_tokens_details")), "thinking_tokens", "reasoning_tokens"),
    )


def _separate_inferences(usage: Mapping[str, Any]) -> Dict[str, Optional[int]]:
    """Return the tokens of inferences that the totals leave out; those of the input with the cached ones."""
    found = usage.get("iterations")
    made = [mapping(part) for part in found] if isinstance(found, (list, tuple)) else []
    units: Dict[str, Optional[int]] = {}
    for kind, name in _ITERATION_UNITS.items():
        parts = [part for part in made if part.get("type") == kind]
        units[f"{name}_input_tokens"] = total(*map(_input, parts))
        units[f"{name}_output_tokens"] = total(*(first(part, "output_tokens") for part in parts))
    return units


def _input(part: Mapping[str, Any]) -> Optional[int]:
    return total(first(part, "input_tokens"), first(part, "cache_read_input_tokens"), _written(part))


def _written(part: Mapping[str, Any]) -> Optional[int]:
    written = first(part, "cache_creation_input_tokens")
    split = mapping(part.get("cache_creation"))
    return total(_one_hour(part), first(split, "ephemeral_5m_input_tokens")) if written is None else written


def _one_hour(part: Mapping[str, Any]) -> Optional[int]:
    return first(mapping(part.get("cache_creation")), "ephemeral_1h_input_tokens")
