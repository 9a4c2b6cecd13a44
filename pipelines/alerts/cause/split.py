"""The change of a sum between a baseline and now, split among five factors. The parts add up to the change exactly.

A sum of money is calls x tokens per call x price of a token x the share of it that cache reads leave. The factors are
replaced one by one, in this order (chain substitution, as in a price-volume-mix analysis of variances):

    volume           the number of calls moves, everything else is as in the baseline
    mix              the shares of the cells (features, models) move; a cell without a baseline is mix as a whole
    tokens per call  moves inside each cell
    price            of a token before cache reads moves inside each cell
    cache            the share that cache reads save moves inside each cell

Where two factors moved together, their product belongs to the later one. All arithmetic is on integers and fractions.
Parts are rounded to whole units (nano-USD, tokens) by the method of largest remainders: each is less than one unit off,
and their sum is the change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, NamedTuple

Measure = Literal["cost", "tokens", "calls"]
Number = int | Fraction


class Totals(NamedTuple):
    """Sums over one window."""

    calls: Number
    tokens: Number
    cost: Number
    """nano-USD."""
    saved: Number = 0
    """nano-USD that cache reads saved against the price of input tokens; 0 = nothing, or not known."""

    @property
    def uncached(self) -> Number:
        """Cost as it would be without cache reads."""
        return self.cost + self.saved

    def plus(self, other: Totals, sign: int = 1) -> Totals:
        """The sum, or with ``sign`` -1 the difference."""
        return Totals(*(a + sign * b for a, b in zip(self, other, strict=True)))

    def scaled(self, factor: Fraction) -> Totals:
        """What it is with ``factor`` times the calls; tokens and money are rounded to whole units."""
        return Totals(self.calls * factor, *(round(each * factor) for each in self[1:]))


Cell = tuple[Totals, Totals]
"""Baseline and now of one feature, model or pair; the cells of a series add up to it."""


@dataclass(frozen=True)
class Split:
    """Parts of a change, in nano-USD, tokens or calls."""

    volume: Number = 0
    mix: Number = 0
    tokens_per_call: Number = 0
    price: Number = 0
    cache: Number = 0

    @property
    def change(self) -> Number:
        """Sum of the parts."""
        return self.volume + self.mix + self.tokens_per_call + self.price + self.cache


def total(cells: Sequence[Cell]) -> Cell:
    """Sum up cells."""
    before = after = Totals(0, 0, 0)
    for one, other in cells:
        before, after = before.plus(one), after.plus(other)
    return before, after


def split(cells: Sequence[Cell], measure: Measure, *, volume: bool = True) -> Split:
    """Split the change of ``measure`` over ``cells``.

    Args:
        cells: of one series.
        measure: ``cost``, ``tokens`` or ``calls``.
        volume: False compares with the baseline of as many calls as there are now: then volume is 0.
    """
    before, now = total(cells)
    if measure == "calls":
        return Split(volume=now.calls - before.calls if volume else 0)
    old, new = _value(before, measure), _value(now, measure)
    if before.calls <= 0:
        return Split(volume=new - old)
    growth = Fraction(now.calls) / Fraction(before.calls)
    parts = [growth * old - old if volume else Fraction(0), *(Fraction(0) for _ in range(4))]
    for cell in cells:
        for i, part in enumerate(_of_cell(cell, measure, growth), 1):
            parts[i] += part
    return Split(*_rounded(parts))


def _of_cell(cell: Cell, measure: Measure, growth: Fraction) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    """Mix, tokens per call, price and cache of one cell; with its share of the volume they are its change."""
    before, now = cell
    old, new = Fraction(_value(before, measure)), Fraction(_value(now, measure))
    none = Fraction(0)
    if before.calls == 0:
        return new - growth * old, none, none, none
    usual = old * now.calls / before.calls
    mix = usual - growth * old
    if measure == "tokens":
        return mix, new - usual, none, none
    if before.tokens == 0:
        return mix, none, new - usual, none
    per_token = old / before.tokens
    tokens = now.tokens * per_token - usual
    left = new - now.tokens * per_token
    if before.uncached == 0 or now.uncached == 0:
        return mix, tokens, left, none
    cache = new - old * now.uncached / before.uncached
    return mix, tokens, left - cache, cache


def _value(totals: Totals, measure: Measure) -> Number:
    return totals.cost if measure == "cost" else totals.tokens if measure == "tokens" else totals.calls


def _rounded(parts: Sequence[Fraction]) -> list[int]:
    """Round to whole numbers whose sum is the rounded sum: what is missing goes to the largest remainders."""
    floors = [part.numerator // part.denominator for part in parts]
    missing = round(sum(parts)) - sum(floors)
    by_remainder = sorted(range(len(parts)), key=lambda i: (floors[i] - parts[i], i))
    for i in by_remainder[:missing]:
        floors[i] += 1
    return floors
