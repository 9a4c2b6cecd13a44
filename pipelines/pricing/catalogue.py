"""Compiles genai-prices' packaged data and our own overrides into a price book: plain JSON, no library at run time."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from importlib.metadata import version
from typing import Any

from pipelines.pricing import deployments
from pipelines.pricing.additions import added
from pipelines.pricing.book import FORMAT, PriceBook
from pipelines.pricing.vocabulary import BY_PRICE_KEY, COMPONENT, REQUESTS, VOCABULARY
from schemas.errors import SettingsError
from tailrace_emitter.event import UNIT_CHARS

_COMPONENTS = {**COMPONENT, REQUESTS: "request"}
"""Unit -> its name in a book, where that is not its own."""

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
"""OpenTelemetry's and LiteLLM's provider names that genai-prices writes differently, or would mistake for another."""

_MODERATION = "moderation"
"""OpenAI's moderation models: free (guide "Moderation"); the packaged data have the entry without prices."""
_ONE_HOUR = 2
"""Anthropic's price of a cache entry with one hour to live, in multiples of the price of input."""

_OVERRIDE = {
    "input_usd_per_mtok": "input",
    "output_usd_per_mtok": "output",
    "cache_read_usd_per_mtok": "cache_read",
    "cache_write_usd_per_mtok": "cache_write",
    "cache_write_1h_usd_per_mtok": "cache_write_1h",
    "reasoning_usd_per_mtok": "reasoning",
}
_OVERRIDE_KEYS = {*_OVERRIDE, "provider", "model", "from", "units"}


def default_book(overrides: Sequence[Mapping[str, object]] = (), *, effective_from: int = 0) -> PriceBook:
    """Compile the book that ships with the installed genai-prices.

    Args:
        overrides: rules that win over the data, the first match first: ``model`` (a glob, required), ``provider``,
            ``from`` (ISO date), prices such as ``input_usd_per_mtok`` (text or number, USD per million tokens), and
            ``units`` (a table of unit -> USD for one; also units that genai-prices does not have).
            A rule with ``deployment`` names the ``model`` of an Azure deployment instead (see ``deployments``).
        effective_from: µs UTC of LogAppendTime.

    Raises:
        SettingsError: an override is not understood, or a deployment's model is in no list.
    """
    from genai_prices import data

    rules = [rule for rule in overrides if deployments.KEY not in rule]
    content: dict[str, Any] = {
        "format": FORMAT,
        "source": f"genai-prices {version('genai-prices')}",
        "aliases": ALIASES,
        "overrides": [_override(i, rule) for i, rule in enumerate(rules)],
        "providers": [_provider(p) for p in data.providers],
    }
    if named := deployments.deployments_of([rule for rule in overrides if deployments.KEY in rule]):
        content["deployments"] = named
    book = PriceBook.build(content, effective_from)
    for name, model in named.items():
        if book.explain("azure", model) is None and not any(_overridden(rule, model) for rule in content["overrides"]):
            raise SettingsError(
                f"azure_deployments.{name}", f"no price list has {model}", "correct it, or add it to `prices`"
            )
    return book


def _overridden(rule: Mapping[str, Any], model: str) -> bool:
    return fnmatch.fnmatchcase(model, rule["model"])


def _override(index: int, rule: Mapping[str, object]) -> dict[str, Any]:
    name = f"prices.overrides[{index}]"
    if unknown := sorted(set(rule) - _OVERRIDE_KEYS):
        raise SettingsError(name, f"unknown key {unknown[0]}", f"use {', '.join(sorted(_OVERRIDE_KEYS))}")
    rates = {}
    for key in _OVERRIDE.keys() & rule.keys():
        rates[_OVERRIDE[key]] = _plain(_price(f"{name}.{key}", rule[key], "USD per million tokens"))
    rates |= _unit_rates(f"{name}.units", rule.get("units", {}))
    if not rule.get("model") or not rates:
        raise SettingsError(name, "needs model and a price", "see the docstring of default_book")
    when = {"from": date.fromisoformat(str(rule["from"])).isoformat()} if "from" in rule else None
    provider = str(rule["provider"]).lower() if rule.get("provider") else None
    return {"provider": provider, "model": str(rule["model"]).lower(), "when": when, "rates": rates}


def _price(name: str, value: object, meaning: str) -> Decimal:
    try:
        price = Decimal(str(value))
    except InvalidOperation as error:
        raise SettingsError(name, "not a number", f"write {meaning}") from error
    if not price.is_finite() or not 0 <= price < 1_000_000 or price != round(price, 18):
        raise SettingsError(name, "not a price", f"write {meaning}, at most 18 decimals")
    return price


def _unit_rates(name: str, units: object) -> dict[str, str]:
    """Return the stored prices of ``units = {web_searches = 0.01}``: USD for one of each."""
    if not isinstance(units, Mapping):
        raise SettingsError(name, "not a table", "write units = {web_searches = 0.01}, in USD for one")
    rates: dict[str, str] = {}
    for unit, value in units.items():
        if unit in COMPONENT or not 0 < len(unit) <= UNIT_CHARS:
            raise SettingsError(f"{name}.{unit}", "not a unit that an entry of units has", "see the docs of prices")
        price = _price(f"{name}.{unit}", value, "USD for one")
        rates[str(_COMPONENTS.get(unit, unit))] = _plain(price * (VOCABULARY[unit].per if unit in VOCABULARY else 1))
    return rates


def _provider(provider: Any) -> dict[str, Any]:
    return {
        "id": provider.id,
        "match": _clause(provider.provider_match),
        "model_match": _clause(provider.model_match),
        "fallback": list(provider.fallback_model_providers or ()),
        "models": [*added(provider.id), *(m for model in provider.models if (m := _model(model)))],
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
        if set(v.when) <= {"service_tier", "processing", "speed"}
    ]
    if model.id == _MODERATION:
        stored = [{"when": None, "rates": {"input": "0", "output": "0"}}]
    if "claude" in model.id:
        for part in (*stored, *variants):
            _add_one_hour(part["rates"])
    return {"id": model.id, "match": _clause(model.match), "prices": stored, "variants": variants}


def _add_one_hour(rates: Any) -> None:
    """Add Anthropic's rate of one-hour cache entries, where the data have the one of five minutes only."""
    if "cache_write" not in rates or "cache_write_1h" in rates or "input" not in rates:
        return
    price = rates["input"]
    if isinstance(price, Mapping):
        steps = [[start, _plain(_ONE_HOUR * Decimal(each))] for start, each in price["tiers"]]
        rates["cache_write_1h"] = {"base": _plain(_ONE_HOUR * Decimal(price["base"])), "tiers": steps}
    else:
        rates["cache_write_1h"] = _plain(_ONE_HOUR * Decimal(price))


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
    """Keep the prices of every unit that the vocabulary has, as exact text: USD per million, thousand or hour."""
    out: dict[str, Any] = {}
    for key, value in sorted(prices.__dict__.items()):
        unit = BY_PRICE_KEY.get(key)
        if value is None or unit is None:
            continue
        name = _COMPONENTS.get(unit.name, unit.name)
        tiers = getattr(value, "tiers", None)
        if tiers is None:
            out[name] = _plain(value)
        else:
            steps = [[int(t.start), _plain(t.price)] for t in tiers]
            out[name] = {"base": _plain(value.base), "tiers": steps}
    return out


def _plain(value: Decimal) -> str:
    return format(value.normalize(), "f")
