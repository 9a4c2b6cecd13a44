"""What each call cost: exact integers, vectorised over the batch, each component rounded half-even to 1e-9 USD.

A call's price is looked up once per distinct (provider, model, response model, tier) and moment; the batch then only
gathers rates and multiplies. Rates are whole numbers of 1e-24 USD; where a rate is whole in 1e-15 USD and the product
fits 64 bits (nearly always) numpy does it, else Python's integers do: the result is the same to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.decode.book import COMPONENTS, DAY_US, PriceBook, PriceBooks, Rates, believed
from schemas.arrow import MONEY

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

COMPUTED, REPORTED, UNPRICED, FREE = "computed", "reported", "unpriced", "free"
COST_COLUMNS = (
    "cost_usd",
    "input_cost_usd",
    "output_cost_usd",
    "cache_read_cost_usd",
    "cache_write_cost_usd",
)
MAX_CALL_NANOUSD = 10**15
"""A call of more than a million dollars is a broken counter, not a cost: it stays unpriced."""

_KEYS = ("provider", "model", "response_model", "service_tier")
_FINE = 10**9
"""1e-24 USD in 1e-15 USD."""
_SAFE = 2.0e18
"""Products below this add up within 64 bits."""
_GROUPS = {
    "input": ("input", "audio_in", "request"),
    "output": ("output", "reasoning", "audio_out"),
    "cache_read": ("cache_read",),
    "cache_write": ("cache_write", "cache_write_1h"),
}
_PLACE = {name: i for i, name in enumerate(COMPONENTS)}


def price(table: pa.Table, books: PriceBooks) -> pa.Table:
    """Return ``table`` with the cost columns, ``cost_status`` and ``price_version`` appended (or replaced).

    Needs provider, model, response_model, service_tier, the token columns, answer_cache, status, cost_reported_usd,
    ts and _kafka_time. cost_usd is NULL exactly where cost_status is ``unpriced``. ``free`` is a price of zero, a hit
    in the app's own answer cache, or a failed or blocked call without usage. ``reported``: no price is known but the
    gateway said one; then only cost_usd is set.
    """
    counts, known = _counts(table)
    rates, version = _gather(table, books)
    band = (counts["total"][:, None] > rates.starts[rates.row]).sum(axis=1)
    parts = {name: _cost(counts, rates, band, members) for name, members in _GROUPS.items()}
    total = sum(parts.values())
    assert isinstance(total, np.ndarray)

    priced = rates.found[rates.row] & known & (total <= MAX_CALL_NANOUSD)
    gratis = _equals(table, "answer_cache", ("exact", "semantic"))
    gratis |= ~known & _equals(table, "status", ("error", "blocked"))
    gratis |= priced & rates.free[rates.row]
    reported = _nano(table.column("cost_reported_usd"))
    said = ~gratis & ~priced & (reported >= 0) & (reported <= MAX_CALL_NANOUSD)

    status = np.full(table.num_rows, UNPRICED, dtype=object)
    status[priced], status[said], status[gratis] = COMPUTED, REPORTED, FREE
    total = np.where(gratis, 0, np.where(said, reported, total))
    in_parts = priced | gratis
    money = [_money(total, in_parts | said)]
    money += [_money(np.where(gratis, 0, part), in_parts) for part in parts.values()]
    columns = dict(zip(COST_COLUMNS, money, strict=True))
    columns["cost_status"] = pa.array(status, pa.string())
    columns["price_version"] = version
    return put(table, columns)


def mismatched(table: pa.Table) -> Bools:
    """Return the rows whose token details exceed their totals (``schema.md`` 1.4): marked, never refused."""

    def tokens(name: str) -> Ints:
        return _filled(table.column(f"{name}_tokens"))

    said = {n: _valid(table.column(f"{n}_tokens")) for n in ("input", "output", "cache_write")}
    wrong: Bools = said["input"] & (tokens("cache_read") + tokens("cache_write") > tokens("input"))
    wrong |= said["input"] & (tokens("audio_in") > tokens("input"))
    wrong |= said["output"] & (np.maximum(tokens("reasoning"), tokens("audio_out")) > tokens("output"))
    wrong |= said["cache_write"] & (tokens("cache_write_1h") > tokens("cache_write"))
    return wrong


def dated(table: pa.Table, book: PriceBook) -> Bools:
    """Return the rows whose price ``book`` says to hold from some day on; needs what ``price`` needs of a row's key."""
    moment = believed(_micros(table.column("ts")), _micros(table.column("_kafka_time")))
    code, names = _distinct(table)
    distinct, place = _moments(book, code, moment)
    flags = np.array([book.price(names[key], date, time).dated for key, date, time in distinct], np.bool_)
    return np.asarray(flags[place], np.bool_)


def nanousd(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return money as int64 nano-USD, NULL where it is NULL."""
    values = _nano(column)
    return pa.array(values, pa.int64(), mask=values < 0)


def put(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """Return ``table`` with ``columns`` set, at their place where they exist, else at the end."""
    for name, column in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
    return table


def _counts(table: pa.Table) -> tuple[dict[str, Ints], Bools]:
    """Return how many tokens each component pays for, and whether any usage was said at all."""
    raw = {name: _filled(table.column(f"{name}_tokens")) for name in COMPONENTS if name != "request"}
    known: Bools = _valid(table.column("input_tokens")) | _valid(table.column("output_tokens"))
    one_hour = np.minimum(raw["cache_write_1h"], raw["cache_write"])
    fresh = np.maximum(raw["input"] - raw["cache_read"] - raw["cache_write"], 0)
    audio_in = np.minimum(raw["audio_in"], fresh)
    thought = np.minimum(raw["reasoning"], raw["output"])
    audio_out = np.minimum(raw["audio_out"], raw["output"] - thought)
    return {
        "total": raw["input"],
        "input": fresh - audio_in,
        "audio_in": audio_in,
        "cache_read": raw["cache_read"],
        "cache_write": raw["cache_write"] - one_hour,
        "cache_write_1h": one_hour,
        "output": raw["output"] - thought - audio_out,
        "reasoning": thought,
        "audio_out": audio_out,
        "request": np.ones(table.num_rows, np.int64),
    }, known


@dataclass(frozen=True)
class _Gathered:
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


def _gather(table: pa.Table, books: PriceBooks) -> tuple[_Gathered, pa.Array]:
    """Return the prices of the rows, and the version of each row's book."""
    kafka_time = _micros(table.column("_kafka_time"))
    moment = believed(_micros(table.column("ts")), kafka_time)
    code, names = _distinct(table)
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
    found = np.array([e is not None for e in entries], np.bool_)
    free = np.array([e is not None and e.free for e in entries], np.bool_)
    return _Gathered(row, starts, exact, fine, fits.all(axis=(1, 2)).astype(np.bool_), found, free), versions


def _lookup(
    book: PriceBook, code: Ints, moment: Ints, names: list[tuple[Any, ...]], entries: list[Rates | None]
) -> Ints:
    """Append the distinct rates that the rows need to ``entries``; return each row's place among those."""
    distinct, place = _moments(book, code, moment)
    entries += [book.rates(names[key], date, time) for key, date, time in distinct]
    return place


def _moments(book: PriceBook, code: Ints, moment: Ints) -> tuple[list[tuple[int, int, int]], Ints]:
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


def _distinct(table: pa.Table) -> tuple[Ints, list[tuple[Any, ...]]]:
    """Return each row's number among the distinct keys, and the keys."""
    code = np.zeros(table.num_rows, np.int64)
    for name in _KEYS:
        encoded = _one(table.column(name)).dictionary_encode(null_encoding="encode")
        code = code * (len(encoded.dictionary) + 1) + encoded.indices.to_numpy(zero_copy_only=False)
        _, code = np.unique(code, return_inverse=True)  # keeps the product small
        code = np.asarray(code, np.int64)
    first = np.zeros(int(code.max()) + 1 if len(code) else 0, np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    keys = table.select(_KEYS).take(pa.array(first))
    return code, list(zip(*(keys.column(name).to_pylist() for name in _KEYS), strict=True))


def _cost(counts: dict[str, Ints], rates: _Gathered, band: Ints, members: tuple[str, ...]) -> Ints:
    """Return one component in nano-USD: products summed exactly, rounded once, half to even."""
    amounts = [(counts[name], rates.fine[rates.row, band, _PLACE[name]], _PLACE[name]) for name in members]
    sizes = sum(amount.astype(np.float64) * rate.astype(np.float64) for amount, rate, _ in amounts)
    safe: Bools = (np.asarray(sizes) < _SAFE) & rates.whole[rates.row]
    total = sum(np.where(safe, amount, 0) * rate for amount, rate, _ in amounts)
    nano = _half_even(np.asarray(total, np.int64), 10**6)
    for i in np.flatnonzero(~safe).tolist():
        exact = rates.exact[rates.row[i], band[i]]
        whole = sum(int(amount[i]) * exact[place] for amount, _, place in amounts)
        nano[i] = min(_half_even_int(whole, 10**15), MAX_CALL_NANOUSD + 1)
    return nano


def _half_even(value: Ints, unit: int) -> Ints:
    quotient, rest = np.divmod(value, unit)
    up = (rest * 2 > unit) | ((rest * 2 == unit) & (quotient % 2 == 1))
    return np.asarray(np.minimum(quotient + up, MAX_CALL_NANOUSD + 1), np.int64)


def _half_even_int(value: int, unit: int) -> int:
    quotient, rest = divmod(value, unit)
    return quotient + (rest * 2 > unit or (rest * 2 == unit and quotient % 2 == 1))


def _money(nano: Ints, valid: Bools) -> pa.Array:
    """Return int64 nano-USD as DECIMAL(18,9): the same integer, as the low word of 128 bits (never negative)."""
    words = np.zeros((len(nano), 2), np.int64)
    words[:, 0] = np.where(valid, nano, 0)
    bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(MONEY, len(nano), [bitmap, pa.py_buffer(words)])


def _nano(column: pa.ChunkedArray | pa.Array) -> Ints:
    """Return DECIMAL(18,9) as int64 nano-USD, -1 where NULL."""
    array = _one(column)
    low = np.frombuffer(array.buffers()[1] or b"", np.int64)[2 * array.offset : 2 * (array.offset + len(array)) : 2]
    return np.where(_valid(array), low, -1)


def _one(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _filled(column: pa.ChunkedArray) -> Ints:
    return np.asarray(pc.fill_null(_one(column), 0).to_numpy(zero_copy_only=False), np.int64)


def _micros(column: pa.ChunkedArray) -> Ints:
    return np.asarray(_one(column).cast(pa.int64()).to_numpy(zero_copy_only=False), np.int64)


def _valid(column: pa.ChunkedArray | pa.Array) -> Bools:
    return np.asarray(_one(pc.is_valid(column)).to_numpy(zero_copy_only=False), np.bool_)


def _equals(table: pa.Table, name: str, values: tuple[str, ...]) -> Bools:
    inside = pc.is_in(table.column(name), value_set=pa.array(values, pa.string()))
    return np.asarray(_one(inside).to_numpy(zero_copy_only=False), np.bool_)
