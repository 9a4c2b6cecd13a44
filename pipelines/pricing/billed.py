"""What the units of one call cost beside its token columns: every amount counted once, by the most specific price.

The rule is that of genai-prices: an amount is paid by the most specific unit that has its own price, and a unit
without one is paid as the nearest unit it is a part of. What has no price either way is not priced, and makes the call
``partly_priced``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from pipelines.pricing.vocabulary import COMPONENT, REQUESTS, VOCABULARY, ancestors

Quantity = Fraction | None
"""None: it was used, and the amount is not known."""
_CACHE_WRITES = ("cache_write_1h", "cache_write")
_PARTS = {"input": ("cache_read", "cache_write_1h", "cache_write", "audio_in"), "output": ("reasoning", "audio_out")}


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of ``units`` in the lake."""

    unit: str | None
    quantity: Quantity
    rate: Fraction | None
    """USD a unit; None: no price is known."""
    paid: Fraction = Fraction(0)
    """The part of ``quantity`` that is paid only here."""

    @property
    def usd(self) -> Fraction | None:
        """What it costs; None where no price is known."""
        return None if self.rate is None else self.paid * self.rate


@dataclass(frozen=True, slots=True)
class Bill:
    """The units of a call, and what they leave to the token columns."""

    lines: tuple[Line, ...]
    counts: Mapping[str, int]
    """Component -> tokens that the columns still pay for."""

    @property
    def is_whole(self) -> bool:
        """Whether every unit has a price."""
        return all(line.rate is not None for line in self.lines)


@dataclass
class _Sheet:
    """The call while its units are taken out of its columns."""

    tokens: Mapping[str, int | None]
    """Component -> tokens as reported, inclusive as in the lake; None: not reported."""
    own: Mapping[str, Fraction]
    quantities: dict[str, Fraction]
    leaf: dict[str, Fraction] = field(default_factory=dict)
    """Unit -> what no more specific unit pays."""

    def payer(self, name: str) -> str | None:
        """Return the unit whose price pays ``name``."""
        return next((each for each in (name, *ancestors(name)) if each in self.own), None)

    def taken(self, component: str, *, besides: str = "") -> int:
        """Return the tokens of units that are parts of a column, and not of the column ``besides``."""
        names = {name for name, held in COMPONENT.items() if held == component}
        other = {name for name, held in COMPONENT.items() if held == besides}
        found = (
            leaf
            for name, leaf in self.leaf.items()
            if names & set(ancestors(name)) and not other & set(ancestors(name))
        )
        return int(sum(found))


def bill(
    units: Iterable[tuple[str | None, Quantity]], tokens: Mapping[str, int | None], own: Mapping[str, Fraction]
) -> Bill:
    """Price the units of one call.

    Args:
        units: (name, quantity) as reported. A quantity of tokens is a part of the column of its direction, and includes
            the more specific units beside it. Names that a token column holds are left out: the column counts.
        tokens: component -> tokens as reported, inclusive as in the lake; None where nothing was reported.
        own: unit -> USD a unit, of those that have a price of their own in the book.
    """
    quantities, unknown = _summed(units)
    sheet = _Sheet(tokens, own, quantities)
    order = sorted(quantities, key=lambda name: (-len(VOCABULARY[name].dimensions) if name in VOCABULARY else 0, name))
    later = []
    for name in order:
        payer = sheet.payer(name)
        if payer is not None and payer in COMPONENT:
            later.append(name)
        elif payer is not None:
            sheet.leaf[name] = _within(sheet, name, quantities[name] - _inside(sheet, name))
    counts = _left(sheet)
    for name in later:
        sheet.leaf[name] = _carved(sheet, name, counts)
    lines = [_line(sheet, name) for name in quantities]
    lines += [Line(name, None, None) for name in unknown]
    return Bill(tuple(lines), counts)


def _summed(units: Iterable[tuple[str | None, Quantity]]) -> tuple[dict[str, Fraction], list[str | None]]:
    """Return each name's quantity, and the names that were given without one or that are none."""
    quantities: dict[str, Fraction] = {}
    unknown: list[str | None] = []
    for name, quantity in units:
        if name in COMPONENT:
            continue
        if name is None or quantity is None:
            unknown.append(name)
        else:
            quantities[name] = quantities.get(name, Fraction(0)) + quantity
    for name, quantity in quantities.items():
        if name in VOCABULARY and VOCABULARY[name].direction:
            quantities[name] = Fraction(round(quantity))
    return quantities, unknown


def _inside(sheet: _Sheet, name: str) -> Fraction:
    """Return what more specific units already pay of ``name``."""
    return sum((leaf for other, leaf in sheet.leaf.items() if name in ancestors(other)), Fraction(0))


def _within(sheet: _Sheet, name: str, leaf: Fraction) -> Fraction:
    """Return ``leaf``, at most what the column of its direction still has."""
    direction = VOCABULARY[name].direction if name in VOCABULARY else None
    total = sheet.tokens.get(direction) if direction else None
    if total is not None and direction:
        leaf = min(leaf, Fraction(total - sheet.taken(direction)))
    return max(leaf, Fraction(0))


def _left(sheet: _Sheet) -> dict[str, int]:
    """Return the tokens that each column still pays for, as ``price`` splits them where there are no units."""
    held = {name: sheet.tokens.get(name) or 0 for name in COMPONENT.values()}
    one_hour = min(held["cache_write_1h"], held["cache_write"])
    counts = {
        "cache_read": held["cache_read"] - sheet.taken("cache_read"),
        "cache_write_1h": one_hour - sheet.taken("cache_write_1h"),
        "cache_write": held["cache_write"] - one_hour - sheet.taken("cache_write", besides="cache_write_1h"),
        "audio_in": held["audio_in"] - sheet.taken("audio_in"),
        "reasoning": held["reasoning"] - sheet.taken("reasoning"),
        "audio_out": held["audio_out"] - sheet.taken("audio_out"),
    }
    counts = {name: max(count, 0) for name, count in counts.items()}
    for direction, parts in _PARTS.items():
        room = max(held[direction] - sheet.taken(direction), 0)
        for part in parts:
            if part in ("audio_in", "reasoning", "audio_out"):
                counts[part] = min(counts[part], room)
            room = max(room - counts[part], 0)
        counts[direction] = room
    return counts


def _carved(sheet: _Sheet, name: str, counts: dict[str, int]) -> Fraction:
    """Move the tokens of ``name``, which has no own price, out of the column whose price pays it."""
    payer = sheet.payer(name)
    assert payer is not None
    component = COMPONENT[payer]
    wanted = max(sheet.quantities[name] - _inside(sheet, name), Fraction(0))
    direction = VOCABULARY[name].direction
    assert direction is not None
    if sheet.tokens.get(direction) is None:
        return wanted
    moved = min(int(wanted), counts[component])
    counts[component] -= moved
    return Fraction(moved)


def _line(sheet: _Sheet, name: str) -> Line:
    payer = sheet.payer(name)
    if payer is None:
        return Line(name, sheet.quantities[name], None)
    return Line(name, sheet.quantities[name], sheet.own[payer], sheet.leaf[name])


def with_fee(
    units: list[tuple[str | None, Quantity]], own: Mapping[str, Fraction]
) -> list[tuple[str | None, Quantity]]:
    """Return ``units`` with one request, where the model has a fee per request and requests are not counted."""
    if REQUESTS not in own or any(name == REQUESTS for name, _ in units):
        return units
    return [*units, (REQUESTS, Fraction(1))]
