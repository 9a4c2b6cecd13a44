"""The lines of the report: each scorer over each slice, against the period before or against what it replaced. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jobs.evals.compare import Difference, difference
from jobs.evals.successors import successions
from jobs.evals.weights import Estimate, Ints, Sample, estimates
from schemas.variants import is_user_facing

Row = Mapping[str, Any]
"""A row of ``warehouse.evals.scores.scores``."""
MIN_CALLS = 30
"""Judged calls below which no mean is drawn."""
MOST_SLICES = 50
"""Slices of a dimension that are shown, those with most calls; the others are counted."""

TOO_FEW = "too few"
NO_BASELINE = "no baseline yet"
SCORER_CHANGED = "scorer changed"


_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "all": (),
    "app": ("app",),
    "feature": ("app", "feature"),
    "model": ("model",),
    "prompt": ("prompt_name", "prompt_version"),
    "variant": ("app", "variant"),
}
"""Dimension -> the columns of a call that make its slices."""


def _joined(*names: str) -> Callable[[Row], str | None]:
    def name(row: Row) -> str | None:
        if "variant" not in names and not is_user_facing(row.get("variant")):
            return None  # without shadow and canary calls: a variant has a separate line
        parts = [row[each] for each in names]
        if not parts:
            return "all calls"
        return None if parts[-1] is None else " / ".join("-" if p is None else str(p) for p in parts)

    return name


DIMENSIONS: Mapping[str, Callable[[Row], str | None]] = {
    dimension: _joined(*columns) for dimension, columns in _COLUMNS.items()
}
"""Dimension -> from a row to the name of its slice; None: the call reports none, or is of a shadow or canary variant,
which only its own line has."""


@dataclass(frozen=True)
class Line:
    """One scorer over one slice."""

    scorer: str
    version: str
    dimension: str
    slice: str
    series: Mapping[str, str]
    """Dimension -> value of its calls, such as app and feature; empty for all calls."""
    owner: str
    """Team that most of its calls name, else the app."""
    now: Estimate
    before: Estimate | None
    """Of the period before, by the same version of the scorer; None: there is none."""
    change: Difference | None
    significant: bool
    """Whether the change is, among all changes of the report, at a false discovery rate of 5 %."""
    note: str
    """Why there is no mean or no change; empty where there are both."""
    against: str = ""
    """What it is compared with, such as the release before; empty: the same slice in the period before."""


def lines_of(
    rows: Sequence[Row], old: Sequence[Row] | None, first: bool, changed: bool, *, replicates: int = 0
) -> tuple[list[Line], int]:
    """Return the lines of one scorer over every slice, and how many small slices are left out.

    Args:
        rows: its scores.
        old: those of the same version in the period before; None: there are none.
        first: whether there is no period before.
        changed: whether another version scored the period before.
        replicates: of a bootstrap; 0: intervals are Wilson's.
    """
    sample, old_sample = _sample(rows, replicates), _sample(old, replicates) if old else None
    lines, left_out = [], 0
    for dimension, name_of in DIMENSIONS.items():
        names, domains, more = _slices(rows, name_of)
        left_out += more
        now = estimates(sample, domains, len(names))
        was: Sequence[Estimate | None] = [None] * len(names)
        if old and old_sample:
            where = {name: i for i, name in enumerate(names)}
            codes = np.array([where.get(name_of(row) or "", -1) for row in old], np.int64)
            was = [each if each.n else None for each in estimates(old_sample, codes, len(names))]
        owners = _owners(rows, domains)
        series = _series(rows, domains, _COLUMNS[dimension])
        for i, name in enumerate(names):
            change = difference(now[i], known) if (known := was[i]) else None
            note = _note(now[i], known, first, changed)
            version = str(rows[0]["version"] or "")
            scorer = str(rows[0]["name"])
            lines.append(
                Line(scorer, version, dimension, name, series[i], owners[i], now[i], known, change, False, note)
            )
    return [*lines, *([] if first else _succeeding(rows, old or (), replicates))], left_out


def estimates_by(dimension: str, rows: Sequence[Row], *, replicates: int = 0) -> dict[str, Estimate]:
    """Return the estimate of each slice of ``dimension``; empty where there are no rows."""
    if not rows:
        return {}
    names, domains, _ = _slices(rows, DIMENSIONS[dimension])
    return dict(zip(names, estimates(_sample(rows, replicates), domains, len(names)), strict=True))


def _succeeding(rows: Sequence[Row], old: Sequence[Row], replicates: int) -> list[Line]:
    """Return the lines of new releases, prompt versions and variants, each against what it replaced."""
    both = [*rows, *({**row, "stratum": ("before", row["stratum"])} for row in old)]
    sample, pooled, lines = _sample(rows, replicates), _sample(both, replicates), []
    for each in successions(rows, old)[:MOST_SLICES]:
        domains = np.array([0 if each.holds(row, each.new) else -1 for row in rows], np.int64)
        other = np.array([0 if each.holds(row, each.old) else -1 for row in both], np.int64)
        (now,), (was,) = estimates(sample, domains, 1), estimates(pooled, other, 1)
        note = TOO_FEW if now.too_few or was.too_few else ""
        series, owner = {**each.series, "against": each.old}, _owners(rows, domains).get(0, "-")
        scorer, version = str(rows[0]["name"]), str(rows[0]["version"] or "")
        change = difference(now, was)
        lines.append(
            Line(scorer, version, each.dimension, each.slice, series, owner, now, was, change, False, note, each.old)
        )
    return lines


def _sample(rows: Sequence[Row], replicates: int) -> Sample:
    keys = {key: i for i, key in enumerate(dict.fromkeys(row["stratum"] for row in rows))}
    return Sample(
        np.array([np.nan if row["score"] is None else row["score"] for row in rows], float),
        np.array([1 / row["probability"] for row in rows], float),
        np.array([keys[row["stratum"]] for row in rows], np.int64),
        replicates,
    )


def _slices(rows: Sequence[Row], name_of: Callable[[Row], str | None]) -> tuple[list[str], Ints, int]:
    """Return the names of the slices, the number of each row's slice (-1: none), and how many are left out."""
    sizes: Counter[str] = Counter()
    for row in rows:
        if name := name_of(row):
            sizes[name] += 1 / row["probability"]
    names = sorted(sizes, key=lambda name: (-sizes[name], name))
    kept = {name: i for i, name in enumerate(names[:MOST_SLICES])}
    codes = np.array([kept.get(name_of(row) or "", -1) for row in rows], np.int64)
    return list(kept), codes, len(names) - len(kept)


def _owners(rows: Sequence[Row], domains: Ints) -> dict[int, str]:
    named: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for row, domain in zip(rows, domains, strict=True):
        named[int(domain)][row["team"] or row["app"] or "-"] += 1
    return {domain: counts.most_common(1)[0][0] for domain, counts in named.items()}


def _series(rows: Sequence[Row], domains: Ints, columns: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the values of each slice, from one of its rows."""
    found: dict[int, dict[str, str]] = {}
    for row, domain in zip(rows, domains, strict=True):
        if domain >= 0 and int(domain) not in found:
            found[int(domain)] = {name: str(row[name]) for name in columns if row[name] is not None}
    return found


def _note(now: Estimate, before: Estimate | None, first: bool, changed: bool) -> str:
    if now.too_few:
        return TOO_FEW
    if first or (before is None and not changed):
        return NO_BASELINE
    if changed:
        return SCORER_CHANGED
    return TOO_FEW if before is not None and before.too_few else ""


def anchor(line: Line) -> str:
    """Return the URL fragment of a line in the report: letters, digits and dashes."""
    text = f"{line.scorer}-{line.dimension}-{line.slice}-{line.against}".lower()
    return "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in text).split())
