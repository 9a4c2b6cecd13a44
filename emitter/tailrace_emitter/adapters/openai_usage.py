"""The usage of an answer of the OpenAI API, or of one compatible with it, as fields of an event. Pure."""

from typing import Any

from tailrace_emitter.adapters.sdk_values import Json
from tailrace_emitter.adapters.usage import from_openai, reports_nothing


def put_usage(fields: Json, usage: Any) -> None:
    """Put what ``usage`` reports into ``fields``; usage of 0 and 0 beside an answer reports nothing.

    Args:
        fields: of the event; the fields of the answer are already in it.
        usage: the usage object.
    """
    tokens = from_openai(usage) if usage else {}
    cost = tokens.pop("cost_reported", None)
    if fields.get("output") and reports_nothing(tokens):
        tokens = {}
    if cost is not None:
        fields["cost_reported"] = cost  # OpenRouter, Perplexity and xAI report it
    fields["usage_reported"] = bool(tokens)
    if tokens:
        fields["tokens"] = tokens
