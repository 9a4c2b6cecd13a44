"""Converts usage objects of the providers to our counts: input includes cached tokens, output includes reasoning.

What a reader returns goes into an event as ``tokens`` as it is: ``units``, ``service_tier`` and ``cost_reported``,
where the usage object has these, are moved to the call by ``fields.nest_call``. What is billed and is not in a usage
object (items of an answer) is counted by ``hosted_tools`` and ``grounding``: an adapter gives it as ``units``, and both
lists are joined.

To add a vendor: a file here with ``matches`` and ``read``, its test, a line in ``VENDORS``.
"""

from typing import Any

from tailrace_emitter.adapters.usage import (
    anthropic,
    bedrock,
    cohere,
    gemini,
    litellm_images,
    mistral_ocr,
    ollama,
    openai,
    openai_media,
    perplexity,
    xai,
)
from tailrace_emitter.adapters.usage.counting import CALL_FIELDS, Counts, mapping
from tailrace_emitter.adapters.usage.gemini import billed_searches, grounding
from tailrace_emitter.adapters.usage.openai_tools import hosted_tools

OPENAI_LIKE = (litellm_images, openai_media, perplexity, xai, mistral_ocr, openai)
VENDORS = (gemini, bedrock, cohere, ollama, anthropic, *OPENAI_LIKE)
"""The first that matches reads; ``openai`` matches everything."""


def tokens_of(usage: Any) -> Counts:
    """The counts of a usage object of any provider."""
    found = mapping(usage)
    counts: Counts = next(vendor for vendor in VENDORS if vendor.matches(found)).read(found)
    return counts


def from_openai(usage: Any) -> Counts:
    """Usage of OpenAI's API (chat, responses, embeddings, images, audio, realtime), or of one with the same names."""
    found = mapping(usage)
    counts: Counts = next(vendor for vendor in OPENAI_LIKE if vendor.matches(found)).read(found)
    return counts


def from_anthropic(usage: Any) -> Counts:
    """Usage of Anthropic's API."""
    return anthropic.read(mapping(usage))


def from_gemini(usage: Any) -> Counts:
    """Usage of Google's API."""
    return gemini.read(mapping(usage))


def reports_nothing(tokens: Counts) -> bool:
    """Whether a usage object reports 0 and 0: beside an answer it reports nothing."""
    return not tokens.get("input") and not tokens.get("output") and not tokens.get("units")


__all__ = [
    "CALL_FIELDS",
    "VENDORS",
    "Counts",
    "billed_searches",
    "from_anthropic",
    "from_gemini",
    "from_openai",
    "grounding",
    "hosted_tools",
    "reports_nothing",
    "tokens_of",
]
