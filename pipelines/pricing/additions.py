"""Prices that the packaged data do not have, in the form of a price book.

Sources: the price page of OpenAI's platform documentation (fine-tuned models; models of chat completions that search
before each answer, "web search preview": a fee a call; audio tokens of the audio previews; DALL-E by quality and size),
the price page of Fireworks, "Pricing" at docs.perplexity.ai (fees of a request by ``search_context_size``), and
LiteLLM's ``model_prices_and_context_window.json``, which has the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

Rates = Mapping[str, str]


def _fine_tuned(read: str, cached: str, written: str) -> Rates:
    return {"input": read, "cache_read": cached, "output": written}


def _searching(read: str, written: str, low: str, medium: str, high: str) -> Rates:
    """Return rates with the fee of a thousand requests by the size of their search; low is what the API searches.

    The packaged data have the fee of the largest. What a larger search costs beside the lowest fee is a unit.
    """
    more = {"medium": Decimal(medium) - Decimal(low), "high": Decimal(high) - Decimal(low)}
    units = {f"search_context_{size}": str(fee / 1000) for size, fee in more.items()}
    return {"input": read, "output": written, "request": low, **units}


_OPENAI: Mapping[str, Rates] = {
    "ft:gpt-4o-mini": _fine_tuned("0.3", "0.15", "1.2"),
    "ft:gpt-4o": _fine_tuned("3.75", "1.875", "15"),
    "ft:gpt-4.1-nano": _fine_tuned("0.2", "0.05", "0.8"),
    "ft:gpt-4.1-mini": _fine_tuned("0.8", "0.2", "3.2"),
    "ft:gpt-4.1": _fine_tuned("3", "0.75", "12"),
    "ft:o4-mini": _fine_tuned("4", "1", "16"),
    "gpt-4o-search-preview": {"input": "2.5", "output": "10", "request": "25"},
    "gpt-4o-mini-search-preview": {"input": "0.15", "output": "0.6", "request": "25"},
    "gpt-5-search-api": {"input": "1.25", "cache_read": "0.125", "output": "10", "request": "10"},
    "gpt-4o-audio-preview": {"input": "2.5", "output": "10", "audio_in": "40", "audio_out": "80"},
    "gpt-4o-mini-audio-preview": {"input": "0.15", "output": "0.6", "audio_in": "10", "audio_out": "20"},
    "dall-e-2": {
        "image_standard_256x256": "0.016",
        "image_standard_512x512": "0.018",
        "image_standard_1024x1024": "0.02",
    },
    "dall-e-3": {
        "image_standard_1024x1024": "0.04",
        "image_standard_1024x1792": "0.08",
        "image_standard_1792x1024": "0.08",
        "image_hd_1024x1024": "0.08",
        "image_hd_1024x1792": "0.12",
        "image_hd_1792x1024": "0.12",
    },
}
_FIREWORKS: Mapping[str, Rates] = {
    "accounts/fireworks/models/deepseek-v3": {"input": "0.9", "output": "0.9"},
    "accounts/fireworks/models/deepseek-v3p1": {"input": "0.56", "output": "1.68"},
    "accounts/fireworks/models/deepseek-v3p1-terminus": {"input": "0.56", "output": "1.68"},
}
_PERPLEXITY: Mapping[str, Rates] = {
    "sonar": _searching("1", "1", "5", "8", "12"),
    "sonar-pro": _searching("3", "15", "6", "10", "14"),
    "sonar-reasoning": _searching("1", "5", "5", "8", "12"),
    "sonar-reasoning-pro": _searching("2", "8", "6", "10", "14"),
}
_ADDED: Mapping[str, Mapping[str, Rates]] = {
    "openai": _OPENAI,
    "azure": _OPENAI,
    "fireworks": _FIREWORKS,
    "perplexity": _PERPLEXITY,
}
"""Provider -> model name up to its date -> USD per million tokens, per thousand requests, for one of any other unit."""


def added(provider: str) -> list[dict[str, Any]]:
    """Return the entries of ``provider`` that take precedence over the packaged ones."""
    return [
        {
            "id": name,
            "match": {"or": [{"equals": name}, {"starts_with": f"{name}-20"}, {"starts_with": f"{name}:"}]},
            "prices": [{"when": None, "rates": dict(rates)}],
            "variants": [],
        }
        for name, rates in _ADDED.get(provider, {}).items()
    ]
