"""How high the evidence of another style climbs where nothing has changed: the same model, other instructions.

Each window has a reference of 400 answers of one of 45 models to AlpacaEval's instructions, in random order, and then
the answers of the same model to the 400 other instructions, each once. The test is the stage's own. ``fresh`` shows how
many windows reach which evidence (a power of ten; the alarm is at 5), and the p-value that belongs to it: 1 / evidence.
``again`` has the answers of the second half five times over: each number of a style then truly differs between two
pools of 400 instructions, which is what an app with few kinds of prompts looks like after these have changed.

    python bench/style_null.py     # QUICK=1: one window a model instead of seven
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from _incidents_answers import pool
from _incidents_worlds import DATA
from _report import QUICK, report

from pipelines.drift.points import Point, join
from pipelines.drift.strata import Stratum
from pipelines.drift.style_bets import StyleConfig
from pipelines.drift.style_level import StyleLevel
from schemas.rollups import Sample

WINDOWS = 1 if QUICK else 7
EDGES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)


def main() -> None:
    """Print both histograms."""
    fresh, again, began = list[float](), list[float](), time.process_time()
    judged = 0
    for model in _models():
        points = _points(pool(model)[1][0])
        for seed in range(WINDOWS):
            order = np.random.default_rng([seed, *model.encode()]).permutation(len(points))
            first, second = order[: len(order) // 2], order[len(order) // 2 :]
            more = np.concatenate([second, *(np.random.default_rng(seed + i).permutation(second) for i in range(4))])
            highest = _highest([points[i] for i in first], [points[i] for i in more])
            fresh.append(max(highest[: len(second)]))
            again.append(max(highest))
            judged += len(more)
    took = time.process_time() - began
    report(
        {
            "windows": len(fresh),
            "fresh": _shown("fresh", fresh),
            "again": _shown("again", again),
            "us_per_answer": round(1e6 * took / judged, 1),
        },
        "numpy",
    )


def _models() -> list[str]:
    import duckdb

    query = "SELECT DISTINCT model FROM read_parquet($1) WHERE model <> 'NullModel' ORDER BY 1"
    path = str(DATA / "texts" / "alpaca_eval_outputs.parquet")
    return [model for (model,) in duckdb.execute(query, [path]).fetchall()]


def _points(answers: Sequence[str]) -> list[Point]:
    samples = [Sample(f"c{i}", "app", "output", text[:4000], i, 0, i) for i, text in enumerate(answers)]
    return join(samples, [0] * len(samples), np.zeros((0, 0), np.int8), np.zeros(0, np.float32))


def _highest(reference: Sequence[Point], window: Sequence[Point]) -> list[float]:
    """Return the evidence after each answer of ``window``."""
    level = StyleLevel(StyleConfig(), [Stratum("", list(reference))])
    found = []
    for i, point in enumerate(window):
        level.take(point, "", i)
        found.append(level.evidence)
    return found


def _shown(name: str, highest: Sequence[float]) -> dict[str, object]:
    counts = np.histogram(highest, [-1e9, *EDGES, 1e9])[0].tolist()
    names = [f"< {EDGES[0]}", *(f"{a} to {b}" for a, b in pairwise(EDGES)), f">= {EDGES[-1]}"]
    print(f"{name}: highest evidence (power of ten) of {len(highest)} windows")
    for label, count in zip(names, counts, strict=True):
        print(f"  {label:12}{count:5}  {'#' * round(60 * count / len(highest))}")
    p = [10 ** -max(value, 0.0) for value in highest]
    shares = {f"p <= {limit}": round(sum(v <= limit for v in p) / len(p), 4) for limit in (0.1, 0.01, 0.001, 1e-5)}
    print("  share of the windows with " + ", ".join(f"{k}: {v:.2%}" for k, v in shares.items()))
    return {"histogram": dict(zip(names, counts, strict=True)), **shares}


if __name__ == "__main__":
    main()
