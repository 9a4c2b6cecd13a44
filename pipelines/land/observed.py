"""What has landed, for metrics: durations and tokens of calls, how they ended, guardrails, dead letters.

Durations, ends and guardrails are what users got: without calls of shadow and canary variants. Tokens are of all calls,
because all are paid.

Pure. Totals that only grow. Buckets are those of OpenTelemetry's semantic conventions for generative AI, so that the
same numbers serve Prometheus and OTLP. Labels are bounded: after ``MOST`` keys further ones count as `OTHER`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.meter.measures import triggers
from schemas.variants import user_facing

MOST = 100
"""Keys of one distribution or counter."""
MOST_CHARS = 100
OTHER = "(other)"
DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
TOKENS = tuple(float(4**i) for i in range(14))
"""https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/"""
HISTOGRAMS: Mapping[str, tuple[str, float, tuple[float, ...]]] = {
    "duration": ("latency_ms", 1e-3, DURATION_S),
    "first_chunk": ("ttft_ms", 1e-3, FIRST_S),
    "input_tokens": ("input_tokens", 1.0, TOKENS),
    "output_tokens": ("output_tokens", 1.0, TOKENS),
}
"""Name -> column, factor to the unit, upper bounds (inclusive)."""
PAID = frozenset({"input_tokens", "output_tokens"})
"""Of all calls; the others leave out those of shadow and canary variants."""
LABELS = ("app", "provider", "model", "op")
"""Of a histogram."""
COUNTERS = {"ends": ("app", "status"), "guardrails": ("app", "name", "action"), "dead": ("topic", "reason")}
"""Name -> labels."""
Key = tuple[str, ...]


class Observed:
    """Histograms and counters, which continue after a restart."""

    def __init__(self, facts: Mapping[str, Any] | None = None) -> None:
        """Continue from ``facts``, as `facts` returned them; a value of another shape starts empty."""
        self._histograms: dict[str, dict[Key, list[float]]] = {name: {} for name in HISTOGRAMS}
        self._counters: dict[str, dict[Key, int]] = {name: {} for name in COUNTERS}
        for name, (_, _, bounds) in HISTOGRAMS.items():
            for labels, values in (facts or {}).get(name, ()):
                if len(labels) == len(LABELS) and len(values) == len(bounds) + 2:
                    self._histograms[name][tuple(map(str, labels))] = [float(value) for value in values]
        for name, labels_of in COUNTERS.items():
            for labels, value in (facts or {}).get(name, ()):
                if len(labels) == len(labels_of):
                    self._counters[name][tuple(map(str, labels))] = int(value)

    def add_calls(self, calls: pa.Table) -> None:
        """Count ``calls``, duplicates out."""
        if not calls.num_rows:
            return
        every, calls = calls, only(calls, user_facing(calls))
        for part, of in ((every, PAID), (calls, HISTOGRAMS.keys() - PAID)):
            self._distributions(part, of)
        if not calls.num_rows:
            return
        if "status" in calls.column_names:
            ends = calls.set_column(
                calls.schema.get_field_index("status"), "status", pc.fill_null(calls["status"].cast(pa.string()), "ok")
            )
            self._count("ends", *_keys(ends, COUNTERS["ends"]))
        if "guardrails" in calls.column_names:
            self._guardrails(calls)

    def _distributions(self, calls: pa.Table, names: AbstractSet[str]) -> None:
        if not calls.num_rows:
            return
        keys, codes = _keys(calls, LABELS)
        for name, (column, factor, bounds) in HISTOGRAMS.items():
            if name in names and column in calls.column_names:
                self._observe(self._histograms[name], keys, codes, _floats(calls[column]) * factor, bounds)

    def add_dead(self, dead: pa.Table) -> None:
        """Count dead letters."""
        if dead.num_rows:
            self._count("dead", *_keys(dead, COUNTERS["dead"]))

    def facts(self) -> dict[str, Any]:
        """Return all totals as JSON: name -> rows of labels and values.

        Values of a histogram: calls in each bucket (the last has no upper bound), then the sum in its unit.
        """
        found = {
            **{
                name: [[list(key), list(values)] for key, values in held.items()]
                for name, held in self._histograms.items()
            },
            **{name: [[list(key), value] for key, value in held.items()] for name, held in self._counters.items()},
        }
        return {name: rows for name, rows in found.items() if rows}

    def _observe(
        self,
        into: dict[Key, list[float]],
        keys: Sequence[Key],
        codes: np.ndarray,
        values: np.ndarray,
        bounds: Sequence[float],
    ) -> None:
        known = ~np.isnan(values)
        width = len(bounds) + 1
        cells = codes[known] * width + np.searchsorted(bounds, values[known], side="left")
        counts = np.bincount(cells, minlength=len(keys) * width).reshape(len(keys), width)
        sums = np.bincount(codes[known], weights=values[known], minlength=len(keys))
        for key, count, total in zip(keys, counts, sums, strict=True):
            if count.any():
                held = into.setdefault(_bounded(into, key), [0.0] * (width + 1))
                for number, value in enumerate((*count.tolist(), float(total))):
                    held[number] += value

    def _count(self, name: str, keys: Sequence[Key], codes: np.ndarray) -> None:
        into = self._counters[name]
        for key, count in zip(keys, np.bincount(codes, minlength=len(keys)).tolist(), strict=True):
            if count:
                key = _bounded(into, key)
                into[key] = into.get(key, 0) + count

    def _guardrails(self, calls: pa.Table) -> None:
        rows, names, codes = triggers(calls)
        if not len(rows):
            return
        apps, of = _keys(calls, ("app",))
        pairs, cells = np.unique(of[rows] * len(names) + codes, return_inverse=True)
        keys = [(*apps[pair // len(names)], *map(label, names[pair % len(names)])) for pair in pairs.tolist()]
        self._count("guardrails", keys, cells)


def only(rows: pa.Table, kept: pa.ChunkedArray) -> pa.Table:
    """Return the rows that are ``kept``, (rows,) bool; without a copy where these are all."""
    return rows if pc.all(kept).as_py() is not False else rows.filter(kept)


def label(text: str | None) -> str:
    """Return a label: printable, of bounded length; empty, which Prometheus takes for absent, where it is unknown."""
    return "".join(c if c.isprintable() else "\ufffd" for c in (text or "")[:MOST_CHARS])


def _bounded(into: Mapping[Key, Any], key: Key) -> Key:
    return key if key in into or len(into) < MOST else (OTHER,) * len(key)


def _keys(rows: pa.Table, names: Sequence[str]) -> tuple[list[Key], np.ndarray]:
    """Return the distinct keys, and (n,) int64 which one each row has."""
    codes: np.ndarray = np.zeros(rows.num_rows, dtype=np.int64)
    values: list[Key] = [()]
    for name in names:
        column = rows[name].cast(pa.string()) if name in rows.column_names else pa.nulls(rows.num_rows, pa.string())
        coded = pc.fill_null(column, "").dictionary_encode()
        coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
        coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) else coded
        words = [label(word) for word in coded.dictionary.to_pylist()]
        pairs, codes = np.unique(codes * len(words) + coded.indices.to_numpy(), return_inverse=True)
        values = [(*values[pair // len(words)], words[pair % len(words)]) for pair in pairs.tolist()]
    return values, codes


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    """(n,) float64; NaN where it is not reported."""
    return np.asarray(pc.cast(column, pa.float64()).to_numpy())
