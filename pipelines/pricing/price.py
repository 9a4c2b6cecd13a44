"""What each call cost: exact integers, vectorised over the batch, each component rounded half-even to 1e-9 USD.

A call's price is looked up once per distinct (provider, model, response model, tier) and moment; the batch then only
gathers rates and multiplies. Rates are whole numbers of 1e-24 USD; where a rate is whole in 1e-15 USD and the product
fits 64 bits (nearly always) numpy does it, else Python's integers do: the result is the same to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.pricing.arrays import MAX_CALL_NANOUSD, Bools, Ints, equals, filled, micros, money, nano, one, valid
from pipelines.pricing.billed import bill
from pipelines.pricing.book import COMPONENTS, UNITS, PriceBook, PriceBooks, is_plausible
from pipelines.pricing.flags import USAGE_MISSING
from pipelines.pricing.tariff import Gathered, cost, distinct_keys, gather, moments, moments_of
from pipelines.pricing.unit_costs import Billed, Used, beyond, bills, rounded, tokens_of, unit_sums, used_units

COMPUTED, REPORTED, UNPRICED, FREE = "computed", "reported", "unpriced", "free"
PARTLY_PRICED = "partly_priced"
COST_COLUMNS = (
    "cost_usd",
    "input_cost_usd",
    "output_cost_usd",
    "cache_read_cost_usd",
    "cache_write_cost_usd",
)
_ROUNDING_NANOUSD = 5
"""What rounding of the parts may add up to."""
_GROUPS = {
    "input": ("input", "audio_in"),
    "output": ("output", "reasoning", "audio_out"),
    "cache_read": ("cache_read",),
    "cache_write": ("cache_write", "cache_write_1h"),
}


def price(table: pa.Table, books: PriceBooks) -> pa.Table:
    """Return ``table`` with the cost columns, what cache reads saved, ``units``, status and version of the price set.

    Needs provider, model, response_model, service_tier, the token columns, answer_cache, status, cost_reported_usd,
    ts, _kafka_time, units where calls have some, and day where some were sent as history. cost_usd is NULL exactly
    where cost_status is ``unpriced``; else it is the sum of the four components and of the costs in ``units``, except
    where it is ``reported``.

    - ``free``: a price of zero, whether usage is reported or not, a hit in the app's own answer cache, or a failed or
      blocked call without usage.
    - ``partly_priced``: some usage has no price, the price of the service tier is not known, or a call that ended early
      has no count of its output; cost_usd is the rest.
    - ``reported``: the gateway reported a cost above 0, and no whole price is known or ``books`` prefer it. The
      components and ``units`` still have the computed one, where there is one.

    Usage of 0 and 0 beside an answer is no usage.
    """
    counts, known = _counts(table)
    contradicted = usage_missing(table)
    known &= ~contradicted
    rates, version = gather(table, books)
    band = (counts["total"][:, None] > rates.starts[rates.row]).sum(axis=1)
    used = used_units(table)
    billed = bills(table, used, rates, band, counts, known=known)
    parts = {name: cost(counts, rates, band, members) for name, members in _GROUPS.items()}
    total = sum(parts.values())
    assert isinstance(total, np.ndarray)
    verdict = _judge(table, rates, _Facts(total + billed.nano, known, contradicted, counts, used, billed), books.prefer)

    in_parts = verdict.priced | verdict.gratis
    costs = [money(verdict.nano, in_parts | verdict.reported_used)]
    costs += [money(np.where(verdict.gratis, 0, part), in_parts) for part in parts.values()]
    columns = dict(zip(COST_COLUMNS, costs, strict=True))
    columns["cache_saved_nanousd"] = _saved(counts["cache_read"], rates, band, parts["cache_read"], verdict)
    columns["cost_status"] = pa.array(verdict.status, pa.string())
    columns["price_version"] = version
    if "units" in table.column_names:
        columns["units"] = billed.column(table.num_rows, verdict.priced, verdict.gratis)
    return put(table, columns)


@dataclass(frozen=True)
class _Facts:
    total: Ints
    """nano-USD of everything that has a price."""
    known: Bools
    contradicted: Bools
    counts: dict[str, Ints]
    used: Used
    billed: Billed


@dataclass(frozen=True)
class _Verdict:
    nano: Ints
    status: Any
    priced: Bools
    reported_used: Bools
    gratis: Bools


def _saved(read: Ints, rates: Gathered, band: Ints, paid: Ints, verdict: _Verdict) -> pa.Array:
    """Return nano-USD that cache reads saved against the price of input tokens; NULL where a price is not known."""
    whole = cost({"input": read}, rates, band, ("input",))
    known = verdict.gratis | verdict.priced & ~rates.lack_input[rates.row]
    return pa.array(np.where(verdict.gratis, 0, whole - paid), pa.int64(), mask=~known)


def _judge(table: pa.Table, rates: Gathered, facts: _Facts, prefer: str) -> _Verdict:
    """Return which cost of each row counts, and why."""
    used, billed, known = facts.used, facts.billed, facts.known
    missing, rated = _coverage(facts.counts, rates, known)
    missing |= _cut_off(table) & known
    missing |= billed.missing | used.any & facts.contradicted | used.only_tools & ~known
    priced = rates.found[rates.row] & (rated | billed.rated) & (facts.total <= MAX_CALL_NANOUSD)
    gratis = equals(table, "answer_cache", ("exact", "semantic"))
    gratis |= ~(known | used.any) & equals(table, "status", ("error", "blocked"))
    gratis |= rates.found[rates.row] & ~missing & rates.free[rates.row]  # independent of the usage, reported or not
    reported = nano(table.column("cost_reported_usd"))
    # a gateway that has no price either reports 0: that is not a cost
    reported_used = (
        ~gratis & (~priced | missing | (prefer == REPORTED)) & (reported > 0) & (reported <= MAX_CALL_NANOUSD)
    )
    status = np.full(table.num_rows, UNPRICED, dtype=object)
    status[priced], status[priced & missing], status[reported_used], status[gratis] = (
        COMPUTED,
        PARTLY_PRICED,
        REPORTED,
        FREE,
    )
    return _Verdict(
        np.where(gratis, 0, np.where(reported_used, reported, facts.total)), status, priced, reported_used, gratis
    )


def _cut_off(table: pa.Table) -> Bools:
    """Return the rows that ended early without a count of the output: it is not known how much of it is billed."""
    return equals(table, "status", ("cancelled", "error")) & ~valid(table.column("output_tokens"))


def _coverage(counts: dict[str, Ints], rates: Gathered, known: Bools) -> tuple[Bools, Bools]:
    """Return the rows in which some tokens have no price, and those in which some have one, or none were used."""
    inputs = (*_GROUPS["input"], *_GROUPS["cache_read"], *_GROUPS["cache_write"])
    read, wrote = (
        np.asarray(sum(counts[name] for name in names) > np.int64(0), np.bool_) for names in (inputs, _GROUPS["output"])
    )
    no_input, no_output = rates.lack_input[rates.row], rates.lack_output[rates.row]
    missing = known & (read & no_input | wrote & no_output | (read | wrote) & rates.off_tier[rates.row])
    rated = known & (read & ~no_input | wrote & ~no_output | ~read & ~wrote & ~(no_input & no_output))
    return np.asarray(missing, np.bool_), np.asarray(rated, np.bool_)


@dataclass(frozen=True)
class Share:
    """What one component of a call costs by a book."""

    component: str
    count: int | float
    """Tokens; of ``request``, requests; of a unit, its quantity."""
    rate_usd: Decimal
    """USD a token, or one of the unit."""
    unit_usd: Decimal | None = None
    """What an entry of ``units`` adds; None: it is no entry of ``units``."""


def shares(table: pa.Table, book: PriceBook) -> list[Share]:
    """Return the components that the first row of ``table`` pays for by ``book``; [] where it has no price there."""
    first = table.slice(0, 1)
    counts, _ = _counts(first)
    moment = is_plausible(micros(first.column("ts")), micros(first.column("_kafka_time")))
    _, names = distinct_keys(first)
    rates = book.rates(names[0], *book.moment(int(moment[0])))
    if rates is None:
        return []
    number = sum(int(counts["total"][0]) > start for start in rates.starts)
    band, lines = rates.bands[number], []
    if (entries := used_units(first).rows.get(0)) and rates.own:
        found = bill(entries, tokens_of(first, 0), rates.own[number])
        counts.update({name: np.array([count], np.int64) for name, count in found.counts.items()})
        lines = [line for line in found.lines if line.unit and line.quantity and line.rate is not None]
    units = Decimal(UNITS)
    shares = [
        Share(name, int(counts[name][0]), Decimal(rate) / units)
        for name, rate in zip(COMPONENTS, band, strict=True)
        if counts[name][0] and (rate or name != "request")
    ]
    return shares + [
        Share(str(line.unit), float(line.quantity or 0), rounded(line.rate or 0, 18), rounded(line.usd or 0, 9))
        for line in lines
    ]


def mismatched(table: pa.Table) -> Bools:
    """Return the rows whose token details exceed their totals: marked, never refused."""

    def tokens(name: str) -> Ints:
        return filled(table.column(f"{name}_tokens"))

    reported_used = {n: valid(table.column(f"{n}_tokens")) for n in ("input", "output", "cache_write")}
    wrong: Bools = reported_used["input"] & (tokens("cache_read") + tokens("cache_write") > tokens("input"))
    wrong |= reported_used["input"] & (tokens("audio_in") > tokens("input"))
    wrong |= reported_used["output"] & (np.maximum(tokens("reasoning"), tokens("audio_out")) > tokens("output"))
    wrong |= reported_used["cache_write"] & (tokens("cache_write_1h") > tokens("cache_write"))
    return wrong | beyond(table)


def comparable(table: pa.Table) -> Bools:
    """Return the priced rows that have a reported cost and a whole computed one.

    A gateway without a price reports 0, and a call that is only partly priced has no computed cost to
    compare with.
    """
    reported = nano(table.column("cost_reported_usd")) > 0
    if not reported.any():
        return np.zeros(table.num_rows, np.bool_)
    priced = nano(table.column(COST_COLUMNS[1])) >= 0
    compared = reported & priced & unit_sums(table)[1] & ~equals(table, "cost_status", (PARTLY_PRICED,))
    return np.asarray(compared & ~equals(table, "answer_cache", ("exact", "semantic")), np.bool_)


def differing(table: pa.Table, compared: Bools | None = None) -> Bools:
    """Return the comparable rows whose reported cost differs from the computed one by more than 1 %.

    Amounts that the rounding of parts can make differ are equal. ``compared`` is `comparable`, where it is known.
    """
    compared = comparable(table) if compared is None else compared
    if not compared.any():
        return compared
    parts = [np.maximum(nano(table.column(name)), 0) for name in COST_COLUMNS[1:]]
    computed = np.asarray(sum(parts), np.int64) + unit_sums(table)[0]
    apart = np.abs(nano(table.column("cost_reported_usd")) - computed)
    return np.asarray(compared & (apart > computed // 100) & (apart > _ROUNDING_NANOUSD), np.bool_)


def usage_missing(table: pa.Table) -> Bools:
    """Return the rows whose usage of 0 and 0 is none: there is an answer, and no cache of the app gave it."""
    served: Bools = ~equals(table, "answer_cache", ("exact", "semantic"))
    return served & _contradicted(table)


def _answered(table: pa.Table) -> Bools:
    return np.asarray(one(table.column("answered")).to_numpy(zero_copy_only=False), np.bool_)


def _contradicted(table: pa.Table) -> Bools:
    """Return the rows whose usage is 0 and 0 although there is an answer: found now, or flagged earlier."""
    read, wrote = table.column("input_tokens"), table.column("output_tokens")
    nothing: Bools = (valid(read) | valid(wrote)) & (filled(read) == 0) & (filled(wrote) == 0)
    if "answered" in table.column_names:
        return nothing & _answered(table)
    if "_flags" not in table.column_names or not nothing.any():
        return np.zeros(table.num_rows, np.bool_)
    flags = table.column("_flags").to_pylist()
    return nothing & np.array([USAGE_MISSING in (f or ()) for f in flags], np.bool_)


def dated(table: pa.Table, book: PriceBook) -> Bools:
    """Return the rows whose price in ``book`` has a first day; needs the same columns as ``price``."""
    moment = moments_of(table)
    code, names = distinct_keys(table)
    distinct, place = moments(book, code, moment)
    flags = np.array([book.price(names[key], date, time).dated for key, date, time in distinct], np.bool_)
    return np.asarray(flags[place], np.bool_)


def nanousd(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Return money as int64 nano-USD, NULL where it is NULL."""
    values = nano(column)
    return pa.array(values, pa.int64(), mask=values < 0)


def put(table: pa.Table, columns: dict[str, Any]) -> pa.Table:
    """Return ``table`` with ``columns`` set, at their place where they exist, else at the end."""
    for name, column in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
    return table


def _counts(table: pa.Table) -> tuple[dict[str, Ints], Bools]:
    """Return how many tokens each component pays for, and whether any usage was reported."""
    raw = {name: filled(table.column(f"{name}_tokens")) for name in COMPONENTS if name != "request"}
    known: Bools = valid(table.column("input_tokens")) | valid(table.column("output_tokens"))
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
