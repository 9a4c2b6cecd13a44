"""Price books: immutable, content-addressed tables of what a token costs, and how a call finds its row.

A book is plain JSON, so that every stage reads the same rules from ``llm.prices``. Matching runs once per distinct
(provider, model, response model, tier) and is cached; the arithmetic in ``price.py`` is vectorised.
"""

from __future__ import annotations

import bisect
import fnmatch
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.pricing.match import Match, Matcher
from pipelines.pricing.vocabulary import MTOK, UNIT_OF, VOCABULARY
from schemas.errors import UNREADABLE, FatalError

FORMAT = 1
DAY_US = 86_400_000_000
LATE_US, EARLY_US = 7 * DAY_US, DAY_US
"""Plausible event times: as late as Kafka keeps events, and a day ahead. Beyond that the clock is wrong."""
OLDEST_US = 946_684_800_000_000
"""2000-01-01. An older event time is a wrong clock (most often 1970) even where the record is marked as history."""
UNITS = 10**24
"""Rates are integers of 1e-24 USD a token: every price of the packaged data is exact in it."""
PRICED_TIERS = frozenset(("batch", "flex", "priority", "fast", "provisioned"))
"""Service tiers whose tokens cost more or less than those of the standard one, with every provider that has them."""
COMPONENTS = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_in",
    "audio_out",
    "request",
)


class PriceBookError(FatalError):
    """A price book cannot be read or contradicts itself."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"price book refused: {problem}; publish it again with `tailrace prices`")


@dataclass(frozen=True, slots=True)
class Rates:
    """Prices of one model at one moment.

    A call whose input exceeds ``starts[i]`` tokens pays ``bands[i + 1]`` for all of its tokens, else ``bands[0]``.
    """

    starts: tuple[int, ...]
    bands: tuple[tuple[int, ...], ...]
    """Per band one rate a COMPONENT, 1e-24 USD; missing cache, audio and reasoning rates already fall back."""
    own: tuple[Mapping[str, Fraction], ...] = ()
    """Per band USD a unit, of the units that have a price of their own; token columns by the names of their units."""
    off_tier: bool = False
    """Whether the call's service tier has another price, and the book does not have it: these are the standard ones."""

    @property
    def free(self) -> bool:
        """Nothing costs anything."""
        return not any(any(band) for band in self.bands) and not any(any(units.values()) for units in self.own)

    def lacks(self, name: str) -> bool:
        """Return whether the book has no price of a component, nor of what it is a part of."""
        return not self.own or UNIT_OF[name] not in self.own[0]


@dataclass(frozen=True, slots=True)
class Price:
    """The price of a call in a book at one moment."""

    rates: Rates | None
    """None: it is not in the book."""
    dated: bool
    """Whether the book has the day from which on it holds: such a price is the cost of a call at that time, another one
    only that of a call now.
    """


Key = tuple[str | None, str | None, str | None, str | None]
"""(provider, model, response model, service tier)."""


@dataclass(frozen=True)
class PriceBook:
    """One immutable book. Two books with equal content have one version, whenever they take effect."""

    content: Mapping[str, Any]
    effective_from: int = 0
    """µs UTC of LogAppendTime from which it holds."""
    version: str = ""
    dates: tuple[int, ...] = ()
    """Days since 1970 on which some price changes, ascending."""
    times: tuple[int, ...] = ()
    """µs since midnight UTC at which some price changes, ascending."""
    _found: dict[tuple[Key, int, int], Price] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def build(cls, content: Mapping[str, Any], effective_from: int = 0) -> PriceBook:
        """Make a book of ``content``; its version is the hash of the canonical JSON.

        Raises:
            PriceBookError: the format is unknown.
        """
        if content.get("format") != FORMAT:
            raise PriceBookError(f"format {content.get('format')!r}, this version reads {FORMAT}")
        version = "pb-" + hashlib.sha256(_canonical(content)).hexdigest()[:12]
        conditions = [c for c in _conditions(content) if c]
        days = sorted({_day(c["from"]) for c in conditions if "from" in c})
        times = sorted({_time(t) for c in conditions if "daily" in c for t in c["daily"]})
        return cls(content, effective_from, version, tuple(days), tuple(times))

    def to_json(self) -> bytes:
        """Encode for ``llm.prices``."""
        return _canonical({"version": self.version, "effective_from": self.effective_from, "book": self.content})

    @classmethod
    def from_json(cls, data: bytes) -> PriceBook:
        """Decode what ``to_json`` wrote.

        Raises:
            PriceBookError: the bytes are no book, or their hash is not the version they claim.
        """
        try:
            read = json.loads(data)
            book = cls.build(read["book"], int(read["effective_from"]))
            book._prove()
        except (*UNREADABLE, AttributeError, ArithmeticError, re.error) as error:
            raise PriceBookError(f"not a price book ({type(error).__name__})") from error
        if book.version != read.get("version"):
            raise PriceBookError(f"it calls itself {read.get('version')!r} and hashes to {book.version}")
        return book

    def _prove(self) -> None:
        """Compile every price once: what is wrong in a book must show before a call needs it, never then."""
        for rule in self.content["overrides"]:
            _overrides(rule, "a", "a")
            _rates(rule["rates"])
        self.deployed("azure", "a")
        for provider in self.content["providers"]:
            self._matcher.model(str(provider["id"]), "a")
            for model in provider["models"]:
                self._resolve(model, "a", 0, 0)
                for part in (*model["prices"], *model["variants"]):
                    _rates(part["rates"])
                    self._active(part["when"], 0, 0)
                for variant in model["variants"]:
                    _fits(variant["context"], "a")

    def with_effective_from(self, effective_from: int) -> PriceBook:
        """Return the same book, in force from ``effective_from`` (µs UTC)."""
        return PriceBook.build(self.content, effective_from)

    def moment(self, time: int) -> tuple[int, int]:
        """Return (number of price dates reached, number of price times of day reached) at ``time`` (µs UTC)."""
        return bisect.bisect_right(self.dates, time // DAY_US), bisect.bisect_right(self.times, time % DAY_US)

    def rates(self, key: Key, date_index: int, time_index: int) -> Rates | None:
        """Return the prices of a call at a ``moment``; None = not in the book."""
        return self.price(key, date_index, time_index).rates

    def price(self, key: Key, date_index: int, time_index: int) -> Price:
        """Return the same, and whether the book has the day from which they hold."""
        remembered = (key, date_index, time_index)
        if remembered not in self._found:
            if len(self._found) >= 100_000:  # app-made names must not fill the memory
                self._found.clear()
            self._found[remembered] = self._find(key, date_index, time_index)
        return self._found[remembered]

    def override(self, provider: str | None, name: str, date_index: int, time_index: int) -> int | None:
        """Return the number of the first override that holds for ``name`` at a ``moment``."""
        for number, rule in enumerate(self.content["overrides"]):
            if _overrides(rule, provider, name) and self._active(rule.get("when"), date_index, time_index):
                return number
        return None

    def deployed(self, provider: str | None, name: str) -> str:
        """Return the model behind an Azure deployment's name by the book's map; ``name`` where it is none."""
        deployments: Mapping[str, str] = self.content.get("deployments", {})
        if not deployments or not self._matcher.is_azure(provider):
            return name
        return deployments.get(name.lower(), name)

    def explain(self, provider: str | None, name: str) -> Match | None:
        """Return the entry that prices ``name`` and how it was found, overrides aside; None = not in the book."""
        return self._matcher.match(provider, name)

    @cached_property
    def _matcher(self) -> Matcher:
        return Matcher(self.content)

    def _find(self, key: Key, date_index: int, time_index: int) -> Price:
        provider, model, response_model, tier = key
        for name in (response_model, model):
            if not name:
                continue
            if name == model:
                name = self.deployed(provider, name)
            number = self.override(provider, name, date_index, time_index)
            if number is not None:
                rule = self.content["overrides"][number]
                return Price(_rates(rule["rates"]), dated=_dated(rule.get("when")))
            if found := self._matcher.model(provider, name):
                if name.lower().endswith(":free") and self._matcher.may_be_openrouter(provider):
                    # OpenRouter's mark; the data have no prices for these
                    return Price(_rates({"input": "0", "output": "0"}), dated=False)
                return self._resolve(found, tier, date_index, time_index)
        return Price(None, dated=False)

    def _resolve(self, model: Mapping[str, Any], tier: str | None, date_index: int, time_index: int) -> Price:
        """Choose among a model's conditional prices (the last that holds), then override them by the tier's prices."""
        prices = model["prices"]
        held = [p for p in prices if self._active(p["when"], date_index, time_index)]
        base = (held or prices)[-1 if held else 0]
        chosen: dict[str, Any] = {}
        dated = _dated(base["when"])
        off_tier = (tier or "").lower() in PRICED_TIERS
        for variant in model["variants"]:
            if not tier or not _fits(variant["context"], tier):
                continue
            if self._active(variant["when"], date_index, time_index):
                off_tier = False
                dated = dated and _dated(variant["when"])
                for name, rate in variant["rates"].items():
                    chosen.setdefault(name, rate)
        rates = _rates(dict(base["rates"]) | chosen)
        return Price(replace(rates, off_tier=off_tier) if rates else None, dated=dated)

    def _active(self, when: Mapping[str, Any] | None, date_index: int, time_index: int) -> bool:
        if not when:
            return True
        if "from" in when:
            return bisect.bisect_right(self.dates, _day(when["from"])) <= date_index
        start, end = (bisect.bisect_right(self.times, _time(t)) for t in when["daily"])
        return start <= time_index < end if start <= end else time_index >= start or time_index < end


def is_plausible(
    ts: npt.NDArray[np.int64], kafka_time: npt.NDArray[np.int64], history: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.int64]:
    """Return ``ts``, and ``kafka_time`` where a clock must have been wrong (all µs UTC): for the day and the price.

    Args:
        ts: event time.
        kafka_time: LogAppendTime.
        history: the rows that were sent as history: theirs may be as old as ``OLDEST_US``.
    """
    earliest = kafka_time - LATE_US
    if history is not None:
        earliest = np.where(history, np.minimum(earliest, OLDEST_US), earliest)
    return np.where((ts >= earliest) & (ts <= kafka_time + EARLY_US), ts, kafka_time)


class PriceBooks:
    """The books that were published; which one holds is a function of the record's LogAppendTime only."""

    def __init__(self, books: Sequence[PriceBook], *, prefer: str = "computed") -> None:
        """Take one book or more, and which cost counts where a call has two: the ``computed`` or the ``reported`` one.

        Raises:
            PriceBookError: there is none.
        """
        if not books:
            raise PriceBookError("no price book at all")
        self.books = tuple(sorted(books, key=lambda b: (b.effective_from, b.version)))
        self.starts = tuple(b.effective_from for b in self.books)
        self.prefer = prefer

    def at(self, kafka_time: int) -> PriceBook:
        """Return the book in force at ``kafka_time`` (µs UTC); before the first one, the first."""
        return self.books[max(0, bisect.bisect_right(self.starts, kafka_time) - 1)]


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def _conditions(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = [rule.get("when") for rule in content["overrides"]]
    for provider in content["providers"]:
        for model in provider["models"]:
            found += [p["when"] for p in (*model["prices"], *model["variants"])]
    return [c for c in found if c]


def _day(text: str) -> int:
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def _time(text: str) -> int:
    hours, minutes, seconds = text.split(":")
    return (int(hours) * 3600 + int(minutes) * 60) * 1_000_000 + round(float(seconds) * 1_000_000)


def _dated(when: Mapping[str, Any] | None) -> bool:
    return bool(when) and "from" in (when or {})


def _overrides(rule: Mapping[str, Any], provider: str | None, name: str) -> bool:
    if rule.get("provider") and (provider or "").lower() != rule["provider"]:
        return False
    return fnmatch.fnmatchcase(name.lower(), rule["model"])


def _fits(context: Mapping[str, str], tier: str) -> bool:
    tier = tier.lower()
    return context in ({"service_tier": tier}, {"processing": tier}, {"speed": tier})


def _rates(stored: Mapping[str, Any]) -> Rates | None:
    """Compile stored prices (USD per million, or {"base", "tiers"}) to integer bands; None where there is none.

    Keys are COMPONENTS, and units of the vocabulary; a unit that is in neither has this price per piece.
    """
    if not stored:
        return None
    starts = sorted({int(s) for price in stored.values() if isinstance(price, Mapping) for s, _ in price["tiers"]})
    bands, own = [], []
    for over in (-1, *starts):
        own.append({UNIT_OF.get(name, name): _apiece(name, price, over) for name, price in stored.items()})
        rate = {name: _unit(price, over, name) for name, price in stored.items() if name in UNIT_OF}
        rate.setdefault("input", 0)
        rate.setdefault("output", 0)
        rate.setdefault("cache_read", rate["input"])
        rate.setdefault("cache_write", rate["input"])
        rate.setdefault("cache_write_1h", rate["cache_write"])
        rate.setdefault("reasoning", rate["output"])
        rate.setdefault("audio_in", rate["input"])
        rate.setdefault("audio_out", rate["output"])
        rate.setdefault("request", 0)
        bands.append(tuple(rate[name] for name in COMPONENTS))
    return Rates(tuple(starts), tuple(bands), tuple(own))


def _in_band(price: Any, over: int) -> Decimal:
    if isinstance(price, Mapping):
        price = next((p for s, p in reversed(price["tiers"]) if int(s) <= over), price["base"])
    return Decimal(price)


def _apiece(name: str, price: Any, over: int) -> Fraction:
    """Return USD a unit."""
    unit = VOCABULARY.get(UNIT_OF.get(name, name))
    each = Fraction(_in_band(price, over)) / (unit.per if unit else 1)
    if each < 0:
        raise PriceBookError(f"price {price} of {name} is negative")
    return each


def _unit(price: Any, over: int, name: str) -> int:
    scaled = _in_band(price, over) * UNITS / (1000 if name == "request" else MTOK)
    whole = int(scaled)
    if whole != scaled or whole < 0:
        raise PriceBookError(f"price {price} of {name} is negative or finer than 1e-24 USD")
    return whole
