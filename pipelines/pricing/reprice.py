"""What calls that have landed cost by a later price book: rows of a ledger, never edits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.pricing.book import DAY_US, Key, PriceBook, PriceBooks
from pipelines.pricing.price import PARTLY_PRICED, REPORTED, UNPRICED, dated, price
from schemas.arrow import MONEY
from schemas.tables import COST_ADJUSTMENTS

PRICED_BY = (
    *("provider", "model", "response_model", "service_tier"),
    *(f"{n}_tokens" for n in ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning")),
    *(
        "units",
        "audio_in_tokens",
        "audio_out_tokens",
        "answer_cache",
        "status",
        "cost_reported_usd",
        "ts",
        "_kafka_time",
    ),
    "_flags",
)
"""Columns of raw_calls that a price is a function of."""
_PLACE = ("id", "day", "_epoch", "_partition", "_offset")
READ = (*_PLACE, *PRICED_BY)
"""What ``adjustments`` reads of raw_calls, beside ``known_usd``, ``partly`` and ``cost_status``."""
CORRECTED = "corrected"
"""Why a row of the ledger is there: it was priced by a book that is wrong as is known now. Else: UNPRICED."""


@dataclass(frozen=True)
class Group:
    """Calls that one lookup in a book prices."""

    key: Key
    version: str
    """Of the book by which their cost is known: that of their landing, or of the last re-pricing."""
    unpriced: int
    """Calls without a cost, or partly priced, as is known now."""
    priced: int


@dataclass(frozen=True)
class PriceGroups:
    """A group to be looked at call by call."""

    key: Key
    version: str
    also_priced: bool
    """Not only its calls without a cost, or partly priced."""


def wanted(
    groups: Iterable[Group], old: PriceBooks, new: PriceBook, *, since: int, until: int, undated: bool = False
) -> list[PriceGroups]:
    """Return the groups whose cost ``new`` may change, as ``adjustments`` understands it.

    Args:
        groups: what there is.
        old: every book by which a cost may be known; calls of a missing one are priced again.
        new: the current book.
        since: the first of the calls' times, µs UTC.
        until: the last of them.
        undated: as for ``adjustments``.
    """
    books = {book.version: book for book in old.books}
    chosen = []
    for group in groups:
        differs, by_date = _differ(group.key, books.get(group.version), new, since, until)
        also_priced = bool(group.priced) and (by_date or (undated and differs))
        if also_priced or (group.unpriced and differs):
            chosen.append(PriceGroups(group.key, group.version, also_priced))
    return chosen


def adjustments(calls: pa.Table, book: PriceBook, *, undated: bool = False) -> pa.Table:
    """Return the rows of ``cost_adjustments`` (without ``adjusted_at``) that bring ``calls`` to the prices of ``book``.

    A call that was never priced gets the price of ``book``; so does one that was partly priced, where ``book`` prices
    it completely. A priced call is changed only where ``book`` has the day from which on its price holds: a price
    without a date is the cost of a call now, not at that time. A cost that is known never becomes unknown, and what a
    gateway reported stays. Doing it again finds nothing.

    Args:
        calls: columns ``READ``, ``cost_status`` as landed, ``known_usd``: the cost as known now, NULL = unknown, and
            ``partly``: it is that of a part.
        book: the current book, whenever it takes effect; its prices by date follow event time.
        undated: correct by prices without a date too.
    """
    priced = price(calls.select(READ), PriceBooks([book]))
    cost, known = priced.column("cost_usd"), calls.column("known_usd")
    delta = pc.subtract(cost, pc.fill_null(known, pa.scalar(0, MONEY))).cast(MONEY)
    was_unpriced = pc.is_null(known)
    partly, status = calls.column("partly"), priced.column("cost_status")
    completed = pc.and_(partly, pc.not_equal(status, PARTLY_PRICED))
    corrected = pc.not_equal(delta, pa.scalar(0, MONEY))
    if not undated:
        corrected = pc.and_(corrected, pa.array(dated(calls, book)))
    changed = pc.and_(pc.is_valid(cost), pc.or_(pc.or_(was_unpriced, completed), corrected))
    # a price that is only reported is no price of ours, before and now; a reported 0 never was one
    changed = pc.and_(changed, pc.or_(was_unpriced, pc.not_equal(calls.column("cost_status"), REPORTED)))
    changed = pc.and_(changed, pc.not_equal(status, REPORTED))
    # half a price does not take the place of a whole one
    changed = pc.and_(changed, pc.or_(pc.or_(was_unpriced, partly), pc.not_equal(status, PARTLY_PRICED)))
    reason = pc.if_else(pc.or_(was_unpriced, completed), UNPRICED, CORRECTED)
    rows = priced.select(_PLACE)
    for name, column in (
        ("cost_usd", cost),
        ("delta_usd", delta),
        ("price_version", priced.column("price_version")),
        ("reason", reason),
        ("cost_status", status),
    ):
        rows = rows.append_column(name, column)
    return rows.filter(changed).cast(_SCHEMA)


_SCHEMA = pa.schema([field for field in COST_ADJUSTMENTS.schema if field.name != "adjusted_at"])


def _differ(key: Key, old: PriceBook | None, new: PriceBook, since: int, until: int) -> tuple[bool, bool]:
    """Return whether prices of ``key`` differ at any moment of the span, and whether one of ``new`` has a start day."""
    differs = by_date = False
    for moment in _moments((old, new) if old else (new,), since, until):
        price = new.price(key, *new.moment(moment))
        if old is None or old.rates(key, *old.moment(moment)) != price.rates:
            differs, by_date = True, by_date or price.dated
    return differs, by_date


def _moments(books: Sequence[PriceBook], since: int, until: int) -> Iterable[int]:
    """Return one moment of every stretch of the span in which no price of any of ``books`` changes."""
    dates = {day for book in books for day in book.dates if since // DAY_US < day <= until // DAY_US}
    times = {0, *(time for book in books for time in book.times)}
    return (day * DAY_US + time for day, time in product(sorted({since // DAY_US, *dates}), sorted(times)))
