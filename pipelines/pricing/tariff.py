"""Which prices a batch pays: one lookup per distinct key and moment, then every row gathers its own.

Rates are whole numbers of 1e-24 USD; where a rate is whole in 1e-15 USD and the product fits 64 bits (nearly always)
numpy multiplies, else Python's integers do: the result is the same to the last digit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.pricing.arrays import MAX_CALL_NANOUSD, Bools, Ints, filled, half_even, half_even_int, micros, one
from pipelines.pricing.book import COMPONENTS, DAY_US, PriceBook, PriceBooks, Rates, is_plausible

_KEYS = ("provider", "model", "response_model", "service_tier")
_FINE = 10**9
"""1e-24 USD in 1e-15 USD."""
_SAFE = 2.0e18
"""Products below this add up within 64 bits."""
_PLACE = {name: i for i, name in enumerate(COMPONENTS)}


@dataclass(frozen=True)
class Gathered:
    """The distinct prices a batch needs, and which of them each row pays."""

    row: Ints
    """(rows,): index into the others."""
    starts: Ints
    """(entries, bands - 1): thresholds of input tokens; the greatest integer where there is none."""
    exact: npt.NDArray[np.object_]
    """(entries, bands, components): Python integers, 1e-24 USD."""
    fine: Ints
    """The same in 1e-15 USD, where ``whole``."""
    whole: Bools
    found: Bools
    free: Bools
    lack_input: Bools
    """No price of input tokens, nor of what they are a part of."""
    lack_output: Bools
    off_tier: Bools
    fee: Bools
    """There is a fee a request."""
    entries: tuple[Rates | None, ...]


def moments_of(table: pa.Table) -> Ints:
    """Return the times whose prices hold (µs UTC): ts, and _kafka_time where ts is implausible.

    ``day`` is that of ts exactly where ts is plausible; so what was sent as history is priced by its own time again.
    """
    ts, kafka_time = micros(table.column("ts")), micros(table.column("_kafka_time"))
    near = is_plausible(ts, kafka_time)
    if "day" not in table.schema.names:
        return near
    return np.where(filled(table.column("day").cast(pa.int32())) == ts // DAY_US, ts, near)


def gather(table: pa.Table, books: PriceBooks) -> tuple[Gathered, pa.Array]:
    """Return the prices of the rows, and the version of each row's book."""
    kafka_time = micros(table.column("_kafka_time"))
    moment = moments_of(table)
    code, names = distinct_keys(table)
    book_at = np.maximum(np.searchsorted(np.asarray(books.starts), kafka_time, side="right") - 1, 0)
    row = np.zeros(table.num_rows, np.int64)
    entries: list[Rates | None] = []
    for i in np.unique(book_at).tolist():
        rows = np.flatnonzero(book_at == i)
        row[rows] = len(entries) + _lookup(books.books[i], code[rows], moment[rows], names, entries)
    versions = pa.array([b.version for b in books.books], pa.string()).take(pa.array(book_at))

    width = max((len(e.bands) for e in entries if e), default=1)
    exact = np.zeros((len(entries), width, len(COMPONENTS)), dtype=object)
    starts = np.full((len(entries), width - 1), np.iinfo(np.int64).max, np.int64)
    for i, entry in enumerate(entries):
        if entry:
            exact[i, : len(entry.bands)] = entry.bands
            starts[i, : len(entry.starts)] = entry.starts
    fits = (exact % _FINE == 0) & (exact // _FINE < 2**62)
    fine = np.where(fits, exact // _FINE, 0).astype(np.int64)

    def marked(fact: Callable[[Rates], bool]) -> Bools:
        return np.array([e is not None and fact(e) for e in entries], np.bool_)

    gathered = Gathered(
        row,
        starts,
        exact,
        fine,
        fits.all(axis=(1, 2)).astype(np.bool_),
        found=marked(lambda e: True),
        free=marked(lambda e: e.free),
        lack_input=marked(lambda e: e.lacks("input")),
        lack_output=marked(lambda e: e.lacks("output")),
        off_tier=marked(lambda e: e.off_tier),
        fee=marked(lambda e: not e.lacks("request")),
        entries=tuple(entries),
    )
    return gathered, versions


def _lookup(
    book: PriceBook, code: Ints, moment: Ints, names: list[tuple[Any, ...]], entries: list[Rates | None]
) -> Ints:
    """Append the distinct rates that the rows need to ``entries``; return each row's place among those."""
    distinct, place = moments(book, code, moment)
    entries += [book.rates(names[key], date, time) for key, date, time in distinct]
    return place


def moments(book: PriceBook, code: Ints, moment: Ints) -> tuple[list[tuple[int, int, int]], Ints]:
    """Return the distinct (key, date index, time index) of the rows, and each row's place among those."""
    dates = np.searchsorted(np.asarray(book.dates, np.int64), moment // DAY_US, side="right")
    times = np.searchsorted(np.asarray(book.times, np.int64), moment % DAY_US, side="right")
    combined = (code * (len(book.dates) + 1) + dates) * (len(book.times) + 1) + times
    distinct, place = np.unique(combined, return_inverse=True)
    found = []
    for value in distinct.tolist():
        rest, time_index = divmod(value, len(book.times) + 1)
        found.append((*divmod(rest, len(book.dates) + 1), time_index))
    return found, np.asarray(place, np.int64)


def distinct_keys(table: pa.Table) -> tuple[Ints, list[tuple[Any, ...]]]:
    """Return each row's number among the distinct keys, and the keys."""
    code = np.zeros(table.num_rows, np.int64)
    for name in _KEYS:
        encoded = one(table.column(name)).dictionary_encode(null_encoding="encode")
        code = code * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy(zero_copy_only=False)
        _, code = np.unique(code, return_inverse=True)  # keeps the product small
        code = np.asarray(code, np.int64)
    first = np.zeros(int(code.max()) + 1 if len(code) else 0, np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    keys = table.select(_KEYS).take(pa.array(first))
    return code, list(zip(*(keys.column(name).to_pylist() for name in _KEYS), strict=True))


def cost(counts: Mapping[str, Ints], rates: Gathered, band: Ints, members: tuple[str, ...]) -> Ints:
    """Return one component in nano-USD: products summed exactly, rounded once, half to even."""
    amounts = [(counts[name], rates.fine[rates.row, band, _PLACE[name]], _PLACE[name]) for name in members]
    sizes = sum(amount.astype(np.float64) * rate.astype(np.float64) for amount, rate, _ in amounts)
    safe: Bools = (np.asarray(sizes) < _SAFE) & rates.whole[rates.row]
    total = sum(np.where(safe, amount, 0) * rate for amount, rate, _ in amounts)
    nano = half_even(np.asarray(total, np.int64), 10**6)
    for i in np.flatnonzero(~safe).tolist():
        exact = rates.exact[rates.row[i], band[i]]
        whole = sum(int(amount[i]) * exact[place] for amount, _, place in amounts)
        nano[i] = min(half_even_int(whole, 10**15), MAX_CALL_NANOUSD + 1)
    return nano
