"""Ollama's own API: counts are at the top level of the answer. Source: ``docs/api.md`` of ollama/ollama."""

from typing import Any, Mapping

from tailrace_emitter.adapters.usage.counting import Counts, first, reported


def matches(usage: Mapping[str, Any]) -> bool:
    """Ollama's names."""
    return "prompt_eval_count" in usage or "eval_count" in usage


def read(usage: Mapping[str, Any]) -> Counts:
    """``/api/chat`` and ``/api/generate``."""
    return reported(input=first(usage, "prompt_eval_count"), output=first(usage, "eval_count"))
