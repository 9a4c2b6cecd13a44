"""Usage objects whose price a third-party library computed, against what the product makes of the same objects.

The library extracts one object by several API flavours of several providers. A reading counts where its flavour is the
one that the object's own fields show: OpenAI's ``prompt_tokens`` read as embeddings, or Anthropic's cached parts read
as OpenAI's responses, price a call that never was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from exchange_harness.product import priced

from pipelines.pricing import PriceBooks, default_book

AT = 1_787_227_200_000_000
"""2026-08-20T12:00:00Z in µs: the day of the library's data. At noon, because DeepSeek's prices depend on the hour."""
NEAR = Decimal("0.000000001")
LIBRARY_RATES = (
    {"model": "mistral-medium-latest", "input_usd_per_mtok": "0.4", "output_usd_per_mtok": "2"},
    {"model": "mistral-small-latest", "input_usd_per_mtok": "0.1", "output_usd_per_mtok": "0.3"},
    {"model": "ministral-8b-latest", "input_usd_per_mtok": "0.1", "output_usd_per_mtok": "1"},
    {
        "provider": "aws",
        "model": "openai.gpt-5.6-luna",
        "input_usd_per_mtok": "1.1",
        "output_usd_per_mtok": "6.6",
        "cache_write_usd_per_mtok": "1.375",
    },
    {
        "model": "deepseek-v4-flash",
        "input_usd_per_mtok": "0.14",
        "output_usd_per_mtok": "0.28",
        "cache_read_usd_per_mtok": "0.0028",
    },
    {
        "provider": "google",
        "model": "claude-sonnet-4-5-*",
        "input_usd_per_mtok": "3",
        "output_usd_per_mtok": "15",
        "cache_read_usd_per_mtok": "0.3",
        "cache_write_usd_per_mtok": "3.75",
    },
    {"model": "gpt-4o-audio-preview-*", "input_usd_per_mtok": "2.5", "output_usd_per_mtok": "10"},
)
"""Rates of the library's data of 2026-08-21 that have been corrected since, as overrides of the book.

The last one is corrected by the book: the library prices the audio tokens of this model as text, 16 times too low.
"""
_NAMES = {"input": "input_tokens", "output": "output_tokens", "cache_read": "cache_read_tokens"}


@dataclass(frozen=True)
class Reading:
    """One price of the library that is comparable, and ours."""

    number: int
    """Row of the file."""
    shape: str
    provider: str
    flavor: str
    model: str
    library_usd: Decimal
    library_usage: Mapping[str, Any]
    usage: Mapping[str, Any]
    row: Mapping[str, Any]
    """As it lands."""

    @property
    def agrees(self) -> bool:
        """The costs are equal to 1e-9 USD."""
        cost = self.row["cost_usd"]
        return cost is not None and abs(cost - self.fees - self.library_usd) <= NEAR

    @property
    def fees(self) -> Decimal:
        """What is billed by the call, such as searches: in neither of the library's two prices."""
        units = [one for one in self.row["units"] or () if not one["unit"].endswith("_tokens")]
        return sum((one["cost"] or Decimal(0) for one in units), Decimal(0))

    @property
    def reason(self) -> str | None:
        """Why the costs differ; None where no known reason holds."""
        return next((reason for reason, holds in REASONS.items() if holds(self)), None)


def shape_of(body: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], frozenset[str]]:
    """Return the shape of an answer, its usage object, and the library's flavours that read this shape."""
    usage = body.get("usage") or body.get("usageMetadata") or body.get("meta") or body
    if "usageMetadata" in body:
        return "gemini", usage, frozenset({"default"})
    if "completion_tokens" in usage:
        return "chat", usage, frozenset({"chat", "default"})
    if "prompt_tokens" in usage:
        return "embeddings", usage, frozenset({"embeddings"})
    if "cache_read_input_tokens" in usage or "cache_creation_input_tokens" in usage:
        return "messages", usage, frozenset({"anthropic", "default"})
    if "inputTokens" in usage:
        return "converse", usage, frozenset()
    if "input_tokens" in usage:
        return "responses", usage, frozenset({"responses"})
    return "cohere", usage, frozenset()


def readings(cases: Sequence[Mapping[str, Any]], books: PriceBooks) -> list[Reading]:
    """Return every comparable price of the library with the product's row of the same usage.

    The library prices a model whose rates it lacks at 0; such a price is left out.
    """
    found: list[tuple[Any, ...]] = []
    for number, case in enumerate(cases):
        shape, usage, _ = shape_of(case["body"])
        for one, read in _comparable(case):
            cost = Decimal(one["input_price"]) + Decimal(one["output_price"])
            keys = (one["provider_id"], one["api_flavor"], case["model"])
            found.append((number, shape, *keys, cost, read, usage))
    calls = [{"provider": f[2], "model": f[4], "usage": f[7]} for f in found]
    compared = [Reading(*(*f, row)) for f, row in zip(found, priced(calls, books, AT), strict=True)]
    return [r for r in compared if r.library_usd or r.row["cost_status"] != "unpriced"]


def only_tokens(cases: Sequence[Mapping[str, Any]], found: Iterable[Reading]) -> tuple[int, int]:
    """Return (usages without a comparable price, those of them whose tokens the library reads as the product does)."""
    with_price = {reading.number for reading in found}
    without = [case for number, case in enumerate(cases) if number not in with_price]
    calls = [{"model": case.get("model") or "unknown", "usage": shape_of(case["body"])[1]} for case in without]
    rows = priced(calls, books(library_rates=False), AT)
    same = sum(
        any(_same(extracted["usage"], row) for extracted in case["extracted"])
        for case, row in zip(without, rows, strict=True)
    )
    return len(without), same


@dataclass(frozen=True)
class Agreement:
    """How far the library and the product agree."""

    costs: int
    costs_agree: int
    usages: int
    """Usage objects of the file."""
    usages_agree: int
    """A price of the library for it agrees; where it has none, the tokens do."""
    unexplained: int


def agreement(cases: Sequence[Mapping[str, Any]], found: Sequence[Reading]) -> Agreement:
    """Count what agrees."""
    agree = [reading for reading in found if reading.agrees]
    _, same_tokens = only_tokens(cases, found)
    unexplained = sum(not r.agrees and r.reason is None for r in found)
    return Agreement(len(found), len(agree), len(cases), len({r.number for r in agree}) + same_tokens, unexplained)


def books(*, library_rates: bool) -> PriceBooks:
    """Return the book that ships, with the rates of the library's data where these were corrected since."""
    return PriceBooks([default_book(LIBRARY_RATES if library_rates else ())])


def disagreements(found: Iterable[Reading]) -> Counter[tuple[str, str, str, str | None]]:
    """Count the readings that differ by (shape, provider, model, reason)."""
    return Counter((r.shape, r.provider, r.model, r.reason) for r in found if not r.agrees)


def _comparable(case: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield (price of the library, the usage it read) where it read the object by the flavour that the object has."""
    model = case.get("model")
    shape, _, flavors = shape_of(case["body"])
    for extracted in case["extracted"]:
        for one in extracted["extractors"]:
            # the library has no flavour of its own for OpenAI's models on Bedrock
            hosted = shape == "responses" and one["provider_id"] == "aws" and str(model).startswith("openai.")
            if model and "input_price" in one and (one["api_flavor"] in flavors or hosted):
                yield one, extracted["usage"]


def _same(usage: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return all((usage.get(name) or 0) == (row[name] or 0) for name in _NAMES.values())


def _parts_below_total(reading: Reading) -> bool:
    usage = reading.usage
    return reading.shape == "chat" and usage["total_tokens"] > usage["prompt_tokens"] + usage["completion_tokens"]


def _unread_cache_write(reading: Reading) -> bool:
    return bool(reading.row["cache_write_tokens"]) and "cache_write_tokens" not in reading.library_usage


REASONS: dict[str, Callable[[Reading], bool]] = {
    "total_tokens exceeds the parts: the rest is reasoning, which is billed; the library adds the parts": (
        _parts_below_total
    ),
    "the library does not read cache_write_tokens for this provider; the cache write is billed": _unread_cache_write,
}
"""Reasons of the disagreements that remain, and when each holds. A disagreement without a reason is a defect."""
