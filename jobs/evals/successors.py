"""What is new against what it replaced: a release, a prompt version, a variant. Pure.

The new one is the one that was first seen last; it is compared with the one first seen before it, over the calls of
both periods, whose samples are strata of their own. Of variants all are compared with the one that most calls have.
Shadow and canary calls are in no release and no prompt version; a variant is compared with theirs only where there is
no other.
Where a release came in the middle of a period, this shows its effect in full, which the mean of the week dilutes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.variants import is_user_facing

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Succession:
    """Two values of a column, within one app or prompt."""

    dimension: str
    within: tuple[tuple[str, str | None], ...]
    """(column, value) that both have in common."""
    column: str
    new: str
    old: str

    @property
    def slice(self) -> str:
        """Name of the slice of the new one."""
        return " / ".join([*(value or "-" for _, value in self.within), self.new])

    @property
    def series(self) -> dict[str, str]:
        """Columns and values of the new one's calls."""
        return {**{name: value for name, value in self.within if value is not None}, self.column: self.new}

    def holds(self, row: Row, value: str) -> bool:
        """Whether the call in ``row`` has ``value`` and what both have in common."""
        if self.column != "variant" and not is_user_facing(row.get("variant")):
            return False
        return row.get(self.column) == value and all(row.get(name) == common for name, common in self.within)


def successions(rows: Sequence[Row], before: Sequence[Row]) -> list[Succession]:
    """Return what can be compared.

    Args:
        rows: scores of one scorer, with ``called_at``, µs UTC.
        before: those of the period before; empty: none.
    """
    return [
        *_latest("release", ("app",), "release", rows, before),
        *_latest("prompt version", ("prompt_name",), "prompt_version", rows, before),
        *_variants(rows),
    ]


def _latest(
    dimension: str, within: tuple[str, ...], column: str, rows: Sequence[Row], before: Sequence[Row]
) -> Iterator[Succession]:
    first: defaultdict[tuple[Any, ...], dict[str, int]] = defaultdict(dict)
    now: defaultdict[tuple[Any, ...], set[str]] = defaultdict(set)
    for source in (before, rows):
        for row in source:
            value, at = row.get(column), row.get("called_at")
            if value is not None and at is not None and is_user_facing(row.get("variant")):
                key = tuple(row.get(name) for name in within)
                first[key][value] = min(at, first[key].get(value, at))
                if source is rows:
                    now[key].add(value)
    for key, seen in sorted(first.items(), key=lambda item: str(item[0])):
        order = sorted(seen, key=lambda value: (seen[value], value))
        newest = max(now[key], key=order.index, default=None)
        if newest is not None and (place := order.index(newest)):
            yield Succession(dimension, tuple(zip(within, key, strict=True)), column, newest, order[place - 1])


def _variants(rows: Sequence[Row]) -> Iterator[Succession]:
    calls: defaultdict[tuple[Any, ...], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in rows:
        if row.get("variant") is not None:
            calls[row["app"], row.get("experiment")][row["variant"]] += 1 / row["probability"]
    for (app, experiment), sizes in sorted(calls.items(), key=lambda item: str(item[0])):
        most = max(sizes, key=lambda value: (is_user_facing(value), sizes[value], value))
        common = (("app", app), *((("experiment", experiment),) if experiment is not None else ()))
        for value in sorted(set(sizes) - {most}):
            yield Succession("variant", common, "variant", value, most)
