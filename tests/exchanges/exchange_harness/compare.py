"""Every recorded exchange of a supported client: the product's row beside the independent reading."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from exchange_harness import library_cost, reading_native, replay, sdks
from exchange_harness.product import landed
from exchange_harness.reading import TOKENS, Read, read_openai
from exchange_harness.tally import AT, Tally

from pipelines.pricing import PriceBooks, default_book

NEAR = Decimal("0.000000001")
PROVIDERS: dict[str, tuple[str | None, str | None]] = {
    "azure_openai": ("azure.ai.openai", "azure"),
    "cerebras": ("cerebras", "cerebras"),
    "deepseek": ("deepseek", "deepseek"),
    "gemini": ("gcp.gemini", "google"),
    "groq": ("groq", "groq"),
    "mistral": ("mistral_ai", "mistral"),
    "openai": ("openai", "openai"),
    "openrouter": ("openrouter", "openrouter"),
    "together": ("together_ai", "together"),
    "zai": ("zai", "zai"),
    "voyage": ("voyageai", "voyageai"),
    "anthropic": ("anthropic", "anthropic"),
    "bedrock": ("aws.bedrock", "aws"),
    "vertex": ("gcp.vertex_ai", "google"),
}
"""Provider of a recording -> (OpenTelemetry's name, the price library's id); others are not named by their host."""
EXPLAINED = {
    ("test_openrouter_stream_error", 0): "the SDK raises at an error event and keeps the usage in it to itself",
}
"""(recording, number) -> why what lands differs from the reading."""
_SEARCH = "0.025 USD a search of a search preview; genai-prices has no fee for it (openai.com/api/pricing)"
_DALL_E = "0.016 USD an image of DALL-E 2 at 256x256; genai-prices has no image rate (openai.com/api/pricing)"
_AUDIO = "audio tokens of an audio preview at 40 USD a million; genai-prices has them at the rate of text, 2.5"
DOCUMENTED: dict[tuple[str, int], tuple[Decimal, str]] = {
    ("test_image_gen_metrics", 0): (Decimal("0.016"), _DALL_E),
    ("test_image_gen_metrics", 3): (Decimal("0.016"), _DALL_E),
    ("test_image_gen_metrics", 4): (Decimal("0.016"), _DALL_E),
    ("test_audio_as_binary_content_input", 0): (Decimal("0.0019"), _AUDIO),
    ("test_openai_web_search_tool", 0): (Decimal("0.0251975"), _SEARCH),
    ("test_openai_web_search_tool_with_user_location", 0): (Decimal("0.02796"), _SEARCH),
}
"""(recording, number) -> the cost, computed by hand, and which documented price the library lacks."""
OTHER_CLIENTS = {
    "aleph_alpha": "Aleph Alpha's client",
    "bedrock": "boto3",
    "bedrock_agent": "boto3",
    "cohere": "Cohere's client",
    "huggingface": "Hugging Face's client",
    "ollama": "Ollama's client",
    "portkey": "Portkey's prompts",
    "replicate": "Replicate's client",
    "sagemaker": "boto3",
    "voyage": "Voyage's client",
    "watsonx": "IBM's client",
    "writer": "Writer's client",
}
"""Provider -> the client of its recordings outside OpenAI's paths."""
_NO_MODEL = (
    *("/files", "/conversations", "/assistants", "/threads", "/vector_stores", "/input_tokens", "/count_tokens"),
    *(":countTokens", "ileSearchStore", "/cachedContents", "/parsing/"),
)
_NO_METHOD = {
    "embedContent": "the tested version of the SDK embeds by another method",
    "complete": "the tested version of the SDK has no text completions",
    "interactions": "the tested version of the SDK has no interactions",
}
FIELDS = ("op", "model", "response_model", "finish_reason", "status", "service_tier", "response_id")


def not_comparable(exchange: Mapping[str, Any]) -> str | None:
    """Return why an exchange that a client has a method for cannot be replayed; None where it can."""
    if not isinstance(exchange["request_body"], dict):
        return "the request was not recorded"
    if exchange["response_body"] is None:
        return "the answer was not recorded"
    return None


def reasons() -> dict[tuple[str, int], str]:
    """Return (recording, number) -> why what lands differs from the reading, of all that may."""
    return {**EXPLAINED, **{key: why for key, (_, why) in DOCUMENTED.items()}}


def no_client(exchanges: Sequence[Mapping[str, Any]]) -> Counter[tuple[str, str]]:
    """Count by (provider, why) the exchanges that no supported client has a method for."""
    others = [e for e in exchanges if replay.endpoint(e) is None and sdks.endpoint(e) is None]
    return Counter((str(exchange["provider"]), _why_no_client(exchange)) for exchange in others)


def _why_no_client(exchange: Mapping[str, Any]) -> str:
    provider, path = exchange["provider"], exchange["endpoint"].partition("?")[0]
    if provider in OTHER_CLIENTS:
        return f"recorded through {OTHER_CLIENTS[provider]}, which has no adapter"
    if path.endswith("/runs") and exchange["method"].upper() == "POST":
        return "a run of the Assistants API, which the adapter does not record"
    if "/responses/resp" in path:
        return "the retrieval of a background response (tests/emitter/adapters/test_openai_jobs.py)"
    if exchange["method"].upper() != "POST" or any(name in path for name in _NO_MODEL):
        return "no call of a model: files, stores, agents, counts of tokens, polling of results"
    return _NO_METHOD.get(path.rpartition("/")[2].rpartition(":")[2], "the SDK has no method for this path")


def openai_exchanges(exchanges: Sequence[Mapping[str, Any]]) -> Tally:
    """Replay every exchange of OpenAI's shape through the SDK and compare what lands with the reading."""
    return _compare(exchanges, replay, read_openai)


def native_exchanges(exchanges: Sequence[Mapping[str, Any]]) -> Tally:
    """Replay every exchange of Anthropic's and Google's own shapes through their SDKs and compare, field by field."""
    return _compare(exchanges, sdks, reading_native.read)


def _compare(exchanges: Sequence[Mapping[str, Any]], client: Any, read: Callable[..., Read]) -> Tally:
    """Compare what lands with what ``read`` says of each exchange.

    Args:
        client: ``endpoint``, ``model_of`` and ``Replay`` of the SDKs: ``replay`` or ``sdks``.
    """
    tally = Tally()
    emitter = replay.Kept()
    sdk = client.Replay(emitter)
    chosen: list[Mapping[str, Any]] = []
    for exchange in exchanges:
        if client.endpoint(exchange) is None:
            continue
        if why := not_comparable(exchange):
            tally.left_out[exchange["provider"], why] += 1
            continue
        made = sdk.call(exchange)
        assert made <= 1, (exchange["exchange"], made)
        if made:
            chosen.append(exchange)
        else:
            tally.left_out[exchange["provider"], "recorded when the end of the response is retrieved"] += 1
    for exchange, row in zip(chosen, landed(emitter.messages, PriceBooks([default_book()]), AT), strict=True):
        tail, op = client.endpoint(exchange)
        found = differences(row, read(op, exchange, client.model_of(exchange)), exchange["provider"])
        _count(tally, exchange, tail, found)
    sdk.close()
    return tally


def _count(tally: Tally, exchange: Mapping[str, Any], tail: str, found: list[tuple[str, Any, Any]]) -> None:
    where, key = (str(exchange["provider"]), tail), (exchange["exchange"], exchange["seq"])
    tally.compared[where] += 1
    tally.agreed[where] += not found
    if found and _is_explained(key, found):
        tally.explained[where] += 1
        return
    name = f"{exchange['source']} {exchange['exchange']}#{exchange['seq']}"
    tally.differences += [(name, where[0], column, ours, theirs) for column, ours, theirs in found]


def _is_explained(key: tuple[str, int], found: list[tuple[str, Any, Any]]) -> bool:
    if key in DOCUMENTED:  # only this cost, and only in the cost
        return [(column, ours) for column, ours, _ in found] == [("cost_usd", DOCUMENTED[key][0])]
    return key in EXPLAINED


def differences(row: Mapping[str, Any], read: Read, provider: str) -> list[tuple[str, Any, Any]]:
    """Return (column, the product's value, the reading's) where they differ."""
    named, listed = PROVIDERS.get(provider, (None, None))
    pairs = [(name, row[name] or ("ok" if name == "status" else None), getattr(read, name)) for name in FIELDS]
    pairs.append(("provider", row["provider"], named))
    pairs.append(("error_code", row["error_code"], read.error_code))
    pairs += [(name, row[name], read.tokens.get(name)) for name in TOKENS]
    units = {one["unit"]: one["quantity"] for one in row["units"] or ()}
    pairs += [(name, units.get(name), read.units.get(name)) for name in sorted({*units, *read.units})]
    found = [(name, ours, theirs) for name, ours, theirs in pairs if ours != theirs]
    try:
        cost = _cost(read, listed)
    except library_cost.RefusedError:
        return found
    if (row["cost_usd"] is None) != (cost is None) or (cost is not None and abs(row["cost_usd"] - cost) > NEAR):
        found.append(("cost_usd", row["cost_usd"], cost))
    return found


def _cost(read: Read, listed: str | None) -> Decimal | None:
    if read.tokens.get("input_tokens") is None and read.tokens.get("output_tokens") is None:
        return None if read.status == "ok" else Decimal(0)
    models = (read.response_model, read.model)
    return library_cost.cost({**read.tokens, **read.units}, models, listed, AT, tier=read.service_tier)
