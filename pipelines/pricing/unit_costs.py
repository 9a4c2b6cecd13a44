"""The units of a batch: read from the column, priced call by call, written back with rate and cost.

Only rows that have units, or whose model has a fee a request, are looked at one by one; a batch without them costs one
look at the NULL count of the column.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.pricing.arrays import MAX_CALL_NANOUSD, Bools, Ints, valid
from pipelines.pricing.billed import Line, Quantity, bill, with_fee
from pipelines.pricing.tariff import Gathered
from pipelines.pricing.vocabulary import COMPONENT, VOCABULARY, ancestors
from schemas.arrow import BILLED

Entries = list[tuple[str | None, Quantity]]
_COLUMNS = tuple(COMPONENT.values())


@dataclass(frozen=True)
class Used:
    """The units that calls used."""

    rows: dict[int, Entries]
    """Row -> its entries, only where there are some."""
    any: Bools
    """(rows,): something was used that no token column holds."""
    only_tools: Bools
    """(rows,): all of it are calls of hosted tools, which no model makes without tokens."""


@dataclass(frozen=True)
class Billed:
    """What the units cost."""

    lines: dict[int, tuple[Line, ...]]
    nano: Ints
    """(rows,): nano-USD, the sum of the lines, each rounded half to even."""
    missing: Bools
    """(rows,): some unit has no price."""
    rated: Bools
    """(rows,): some unit has one."""

    def column(self, count: int, priced: Bools, gratis: Bools) -> pa.Array:
        """Return ``units`` as in the lake; a call that is free pays nothing for them either."""
        if not self.lines:
            return pa.nulls(count, BILLED)
        rows: list[Any] = [None] * count
        for i, lines in self.lines.items():
            rows[i] = [_entry(line, priced=bool(priced[i]), gratis=bool(gratis[i])) for line in lines] or None
        return pa.array(rows, BILLED)


def used_units(table: pa.Table) -> Used:
    """Return the units of ``table``; names that a token column holds are left out (see ``with_unit_columns``)."""
    rows: dict[int, Entries] = {}
    found, only_tools = np.zeros(table.num_rows, np.bool_), np.zeros(table.num_rows, np.bool_)
    for i, entries in _read(table):
        rows[i] = [(name, quantity) for name, quantity in entries if name not in COMPONENT]
        counted = [name for name, quantity in rows[i] if quantity != 0]
        found[i] = bool(counted)
        only_tools[i] = found[i] and all(n in VOCABULARY and VOCABULARY[n].is_tool_call for n in counted if n)
    return Used(rows, found, only_tools)


def bills(table: pa.Table, used: Used, rates: Gathered, band: Ints, counts: dict[str, Ints], *, known: Bools) -> Billed:
    """Price the units of each row, and take the tokens that they pay for out of ``counts``, in place."""
    nano = np.zeros(table.num_rows, np.int64)
    missing, rated = np.zeros(table.num_rows, np.bool_), np.zeros(table.num_rows, np.bool_)
    lines: dict[int, tuple[Line, ...]] = {}
    if used.rows:
        counts.update({name: counts[name].copy() for name in _COLUMNS})
    charged = rates.fee[rates.row] & (known | used.any)
    for i in sorted({*used.rows, *np.flatnonzero(charged).tolist()}):
        entry = rates.entries[rates.row[i]]
        own = entry.own[band[i]] if entry and entry.own else {}
        tokens = tokens_of(table, i)
        units = used.rows.get(i, [])
        found = bill(with_fee(units, own) if charged[i] else units, tokens, own)
        lines[i] = found.lines
        if units:
            for name, count in found.counts.items():
                counts[name][i] = count
        costs = [nanousd_of(line) for line in found.lines]
        nano[i] = min(sum(cost for cost in costs if cost is not None), MAX_CALL_NANOUSD + 1)
        paid = [line for line in found.lines if line.quantity != 0]
        missing[i] = any(line.rate is None for line in paid)
        rated[i] = any(line.rate is not None for line in paid)
    return Billed(lines, nano, missing, rated)


def nanousd_of(line: Line) -> int | None:
    """Return what one entry costs in nano-USD, rounded half to even; None where no price is known."""
    return None if line.usd is None else round(line.usd * 10**9)


def tokens_of(table: pa.Table, row: int) -> dict[str, int | None]:
    """Return component -> tokens as reported."""
    return {name: table.column(f"{name}_tokens")[row].as_py() for name in _COLUMNS}


def unit_sums(table: pa.Table) -> tuple[Ints, Bools]:
    """Return what the entries of ``units`` of priced rows cost in nano-USD, and the rows where each has a cost."""
    sums, whole = np.zeros(table.num_rows, np.int64), np.ones(table.num_rows, np.bool_)
    if "units" not in table.column_names or table.column("units").null_count == table.num_rows:
        return sums, whole
    for i, found in enumerate(table.column("units").to_pylist()):
        costs = [entry["cost"] for entry in found or ()]
        whole[i] = None not in costs
        sums[i] = sum(int(cost.scaleb(9)) for cost in costs if cost is not None)
    return sums, whole


def rounded(value: Fraction | int, digits: int) -> Decimal:
    """Return ``value`` rounded half to even."""
    return Decimal(round(value * 10**digits)).scaleb(-digits)


def with_unit_columns(table: pa.Table) -> tuple[pa.Table, Bools]:
    """Move units that a token column holds into that column where it is NULL.

    Returns:
        The table, and the rows in which a column and an entry of ``units`` differ: there the column counts.
    """
    differs = np.zeros(table.num_rows, np.bool_)
    moved: dict[str, dict[int, int]] = {}
    for i, entries in _read(table):
        for name, quantity in entries:
            if name is None or name not in COMPONENT or quantity is None:
                continue
            column = f"{COMPONENT[name]}_tokens"
            held = table.column(column)[i].as_py()
            if held is None:
                moved.setdefault(column, {})[i] = moved.get(column, {}).get(i, 0) + round(quantity)
            differs[i] |= held is not None and held != quantity
    for column, values in moved.items():
        filled: list[Any] = table.column(column).to_pylist()
        for i, value in values.items():
            filled[i] = value
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, pa.array(filled, pa.int64()))
    return table, differs


def beyond(table: pa.Table) -> Bools:
    """Return the rows in which a unit of tokens exceeds a reported column that includes it."""
    wrong = np.zeros(table.num_rows, np.bool_)
    for i, entries in _read(table):
        for name, quantity in entries:
            for held in ancestors(name) if name and quantity else ():
                whole = table.column(f"{COMPONENT[held]}_tokens")[i].as_py() if held in COMPONENT else None
                wrong[i] |= whole is not None and quantity is not None and quantity > whole
    return wrong


def _read(table: pa.Table) -> list[tuple[int, Entries]]:
    """Return (row, its entries) where there are some."""
    if "units" not in table.column_names or table.column("units").null_count == table.num_rows:
        return []
    column = table.column("units")
    rows = np.flatnonzero(valid(column)).tolist()
    return [
        (i, [(entry["unit"], _exact(entry["quantity"])) for entry in found if entry is not None])
        for i, found in zip(rows, column.take(pa.array(rows, pa.int64())).to_pylist(), strict=True)
    ]


def _exact(quantity: float | None) -> Quantity:
    """Return the number that was written: 0.1 is a tenth, not the nearest binary fraction."""
    return None if quantity is None else Fraction(repr(quantity))


def _entry(line: Line, *, priced: bool, gratis: bool) -> dict[str, Any]:
    cost = 0 if gratis else nanousd_of(line) if priced else None
    return {
        "unit": line.unit,
        "quantity": None if line.quantity is None else float(line.quantity),
        "rate": None if line.rate is None else rounded(line.rate, 18),
        "cost": None if cost is None else Decimal(cost).scaleb(-9),
    }
