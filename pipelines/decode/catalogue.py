"""Compiles genai-prices' packaged data and our own overrides into a price book: plain JSON, no library at run time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from importlib.metadata import version
from typing import Any

from pipelines.decode.book import FORMAT, PriceBook
from schemas.errors import SettingsError

_RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_in",
    "output_audio_mtok": "audio_out",
    "requests_kcount": "request",
}
"""What an event's token counts can be priced by; prices of searches, pages and hours have no count on the wire."""

ALIASES = {
    "aws.bedrock": "aws",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "fireworks_ai": "fireworks",
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gcp.vertex_ai": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
"""OpenTelemetry's and LiteLLM's provider names that genai-prices spells otherwise, or would take for another."""

_OVERRIDE = {
    "input_usd_per_mtok": "input",
    "output_usd_per_mtok": "output",
    "cache_read_usd_per_mtok": "cache_read",
    "cache_write_usd_per_mtok": "cache_write",
    "cache_write_1h_usd_per_mtok": "cache_write_1h",
    "reasoning_usd_per_mtok": "reasoning",
}
_OVERRIDE_KEYS = {*_OVERRIDE, "provider", "model", "from"}


def default_book(overrides: Sequence[Mapping[str, object]] = (), *, effective_from: int = 0) -> PriceBook:
    """Compile the book that ships with the installed genai-prices.

    Args:
        overrides: rules that win over the data, the first match first: ``model`` (a glob, required), ``provider``,
            ``from`` (ISO date) and prices such as ``input_usd_per_mtok`` (text or number, USD per million tokens).
        effective_from: µs UTC of LogAppendTime.

    Raises:
        SettingsError: an override is not understood.
    """
    from genai_prices import data

    content = {
        "format": FORMAT,
        "source": f"genai-prices {version('genai-prices')}",
        "aliases": ALIASES,
        "overrides": [_override(i, rule) for i, rule in enumerate(overrides)],
        "providers": [_provider(p) for p in data.providers],
    }
    return PriceBook.build(content, effective_from)


def _override(index: int, rule: Mapping[str, object]) -> dict[str, Any]:
    name = f"prices.overrides[{index}]"
    if unknown := sorted(set(rule) - _OVERRIDE_KEYS):
        raise SettingsError(name, f"unknown key {unknown[0]}", f"use {', '.join(sorted(_OVERRIDE_KEYS))}")
    rates = {}
    for key in _OVERRIDE.keys() & rule.keys():
        try:
            price = Decimal(str(rule[key]))
        except InvalidOperation as error:
            raise SettingsError(f"{name}.{key}", "not a number", "write USD per million tokens") from error
        if not price.is_finite() or not 0 <= price < 1_000_000 or price != round(price, 18):
            raise SettingsError(f"{name}.{key}", "not a price", "write USD per million tokens, at most 18 decimals")
        rates[_OVERRIDE[key]] = _plain(price)
    if not rule.get("model") or not rates:
        raise SettingsError(name, "needs model and a price", "see the docstring of default_book")
    when = {"from": date.fromisoformat(str(rule["from"])).isoformat()} if "from" in rule else None
    provider = str(rule["provider"]).lower() if rule.get("provider") else None
    return {"provider": provider, "model": str(rule["model"]).lower(), "when": when, "rates": rates}


def _provider(provider: Any) -> dict[str, Any]:
    return {
        "id": provider.id,
        "match": _clause(provider.provider_match),
        "model_match": _clause(provider.model_match),
        "fallback": list(provider.fallback_model_providers or ()),
        "models": [m for model in provider.models if (m := _model(model))],
    }


def _model(model: Any) -> dict[str, Any]:
    prices = model.prices if isinstance(model.prices, list) else None
    stored = (
        [{"when": _when(c.constraint), "rates": _stored(c.prices)} for c in prices]
        if prices is not None
        else [{"when": None, "rates": _stored(model.prices)}]
    )
    variants = [
        {"context": dict(v.when), "when": _when(v.constraint), "rates": _stored(v.prices)}
        for v in model.price_variants or ()
        if set(v.when) <= {"service_tier", "processing"}
    ]
    return {"id": model.id, "match": _clause(model.match), "prices": stored, "variants": variants}


def _clause(clause: Any) -> dict[str, Any] | None:
    if clause is None:
        return None
    ((name, value),) = ((f.name, getattr(clause, f.name)) for f in dataclasses.fields(clause))
    return {name.rstrip("_"): [_clause(c) for c in value] if isinstance(value, list) else value}


def _when(constraint: Any) -> dict[str, Any] | None:
    if constraint is None:
        return None
    if hasattr(constraint, "start_date"):
        return {"from": constraint.start_date.isoformat()}
    return {"daily": [_utc(constraint.start_time), _utc(constraint.end_time)]}


def _utc(time: Any) -> str:
    moment = datetime.combine(date(1970, 1, 2), time)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).strftime("%H:%M:%S.%f")


def _stored(prices: Any) -> dict[str, Any]:
    """Keep the prices that token counts can pay, as exact text."""
    out: dict[str, Any] = {}
    for key, value in sorted(prices.__dict__.items()):
        if value is None or key not in _RATES:
            continue
        tiers = getattr(value, "tiers", None)
        if tiers is None:
            out[_RATES[key]] = _plain(value)
        else:
            steps = [[int(t.start), _plain(t.price)] for t in tiers]
            out[_RATES[key]] = {"base": _plain(value.base), "tiers": steps}
    return out


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")
