"""Shares the cases of a set among strata: app, feature and kind of reason. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from jobs.golden.cases import Row


def take(candidates: Sequence[Row], total: int) -> list[Row]:
    """Return the first of each stratum, as many as ``slots`` gives it."""
    strata: defaultdict[str, list[Row]] = defaultdict(list)
    for case in candidates:
        strata[case["stratum"]].append(case)
    given = slots({name: len(cases) for name, cases in strata.items()}, total)
    return [case for name, cases in strata.items() for case in cases[: given[name]]]


def slots(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Share ``total`` slots among strata: one each, the rest by largest remainder; the most numerous come first."""
    order = sorted(counts, key=lambda name: (-counts[name], name))
    given = {name: int(rank < total) for rank, name in enumerate(order)}
    left = min(total, sum(counts.values())) - sum(given.values())
    more = sum(counts.values()) - len(counts)
    if left <= 0 or more <= 0:
        return given
    shares = {name: divmod(left * (counts[name] - 1), more) for name in order}
    given = {name: given[name] + shares[name][0] for name in order}
    left -= sum(whole for whole, _ in shares.values())
    for name in sorted(order, key=lambda name: (-shares[name][1], order.index(name)))[:left]:
        given[name] += 1
    return given
