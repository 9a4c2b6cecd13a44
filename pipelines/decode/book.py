"""Price books: immutable, content-addressed tables of what a token costs, and how a call finds its row.

A book is plain JSON, so that every stage reads the same rules from ``llm.prices``. Matching runs once per distinct
(provider, model, response model, tier) and is remembered; the arithmetic in ``price.py`` is vectorised.
"""

from __future__ import annotations

import bisect
import fnmatch
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipelines.decode.match import Matcher
from schemas.errors import UNREADABLE, FatalError

FORMAT = 1
DAY_US = 86_400_000_000
LATE_US, EARLY_US = 7 * DAY_US, DAY_US
"""How far event time is believed: as late as Kafka keeps events, and a day ahead. Beyond that the clock is wrong."""
UNITS = 10**24
"""Rates are integers of 1e-24 USD a token: every price of the packaged data is exact in it."""
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
    """A price book cannot be read or does not mean what it says."""

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

    @property
    def free(self) -> bool:
        """Nothing costs anything."""
        return not any(any(band) for band in self.bands)


@dataclass(frozen=True, slots=True)
class Price:
    """What a book says of a call at one moment."""

    rates: Rates | None
    """None: it is not in the book."""
    dated: bool
    """Whether the book says from which day on it holds: such a price says what a call of then cost, another one only
    what a call costs now."""


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
        """Return the same, and whether the book says from which day on they hold."""
        remembered = (key, date_index, time_index)
        if remembered not in self._found:
            if len(self._found) >= 100_000:  # app-made names must not fill the memory
                self._found.clear()
            self._found[remembered] = self._find(key, date_index, time_index)
        return self._found[remembered]

    @cached_property
    def _matcher(self) -> Matcher:
        return Matcher(self.content)

    def _find(self, key: Key, date_index: int, time_index: int) -> Price:
        provider, model, response_model, tier = key
        for name in (response_model, model):
            if not name:
                continue
            for rule in self.content["overrides"]:
                if _overrides(rule, provider, name) and self._active(rule.get("when"), date_index, time_index):
                    return Price(_rates(rule["rates"]), dated=_dated(rule.get("when")))
            if found := self._matcher.model(provider, name):
                if name.lower().endswith(":free"):  # OpenRouter's mark; the data has no prices for these
                    return Price(_rates({"input": "0", "output": "0"}), dated=False)
                return self._resolve(found, tier, date_index, time_index)
        return Price(None, dated=False)

    def _resolve(self, model: Mapping[str, Any], tier: str | None, date_index: int, time_index: int) -> Price:
        """Choose among a model's conditional prices (the last that holds), then lay the tier's prices over them."""
        prices = model["prices"]
        held = [p for p in prices if self._active(p["when"], date_index, time_index)]
        base = (held or prices)[-1 if held else 0]
        chosen: dict[str, Any] = {}
        dated = _dated(base["when"])
        for variant in model["variants"]:
            if not tier or not _fits(variant["context"], tier):
                continue
            if self._active(variant["when"], date_index, time_index):
                dated = dated and _dated(variant["when"])
                for name, rate in variant["rates"].items():
                    chosen.setdefault(name, rate)
        return Price(_rates(dict(base["rates"]) | chosen), dated=dated)

    def _active(self, when: Mapping[str, Any] | None, date_index: int, time_index: int) -> bool:
        if not when:
            return True
        if "from" in when:
            return bisect.bisect_right(self.dates, _day(when["from"])) <= date_index
        start, end = (bisect.bisect_right(self.times, _time(t)) for t in when["daily"])
        return start <= time_index < end if start <= end else time_index >= start or time_index < end


def believed(ts: npt.NDArray[np.int64], kafka_time: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return ``ts``, and ``kafka_time`` where a clock must have been wrong (all µs UTC): for the day and the price."""
    return np.where((ts >= kafka_time - LATE_US) & (ts <= kafka_time + EARLY_US), ts, kafka_time)


class PriceBooks:
    """The books that were published; which one holds is a function of the record's LogAppendTime only."""

    def __init__(self, books: Sequence[PriceBook]) -> None:
        """Take one book or more.

        Raises:
            PriceBookError: there is none.
        """
        if not books:
            raise PriceBookError("no price book at all")
        self.books = tuple(sorted(books, key=lambda b: (b.effective_from, b.version)))
        self.starts = tuple(b.effective_from for b in self.books)

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
    return context == {"service_tier": tier} or (tier == "batch" and context == {"processing": "batch"})


def _rates(stored: Mapping[str, Any]) -> Rates | None:
    """Compile stored prices (USD per million, or {"base", "tiers"}) to integer bands; None where no token has one."""
    if "input" not in stored and "output" not in stored and "request" not in stored:
        return None
    starts = sorted({int(s) for price in stored.values() if isinstance(price, Mapping) for s, _ in price["tiers"]})
    bands = []
    for over in (-1, *starts):
        rate = {name: _unit(price, over, name) for name, price in stored.items()}
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
    return Rates(tuple(starts), tuple(bands))


def _unit(price: Any, over: int, name: str) -> int:
    if isinstance(price, Mapping):
        price = next((p for s, p in reversed(price["tiers"]) if int(s) <= over), price["base"])
    scaled = Decimal(price) * UNITS / (1000 if name == "request" else 1_000_000)
    whole = int(scaled)
    if whole != scaled or whole < 0:
        raise PriceBookError(f"price {price} of {name} is negative or finer than 1e-24 USD")
    return whole
