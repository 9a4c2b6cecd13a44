"""What the test of styles finds of silent swaps, and how high its evidence climbs where nothing has changed.

``found``: the answers of one model, then of another (S1 of the scoreboard), at arrival times of m-large, through the
watch of the stage. The scoreboard plays the same through all stages; this takes a twentieth of the time.

``fresh`` and ``again`` are windows without a change: the same model, other instructions. Each has a reference of 402
answers of one of 45 models to AlpacaEval's instructions, in random order, and then its answers to the 403 others, each
once. They show how many windows reach which evidence (a power of ten; the alarm is at 5), and the p-value that belongs
to it: 1 / evidence. ``again`` has the second half five times over: each number of a style then truly differs between
two pools of 400 instructions, which is what an app with few kinds of prompts looks like after these have changed.

    python bench/style_drift.py [--seed N]     # QUICK=1: one window a model instead of seven, one stream a pair
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
from _incidents_answers import DEADLINES, SWAPS, Answers, pool
from _incidents_calls import DAY, MINUTE, Array
from _incidents_score import wilson
from _incidents_worlds import DATA, World
from _incidents_worlds import world as world_of
from _report import QUICK, report
from msgspec import structs

from pipelines.drift.points import Point, join
from pipelines.drift.strata import Stratum
from pipelines.drift.style_bets import StyleConfig
from pipelines.drift.style_level import StyleLevel
from pipelines.drift.watch import Watch, WatchConfig
from pipelines.meter.sample import TEXT_CHARS
from schemas.rollups import Sample

WINDOWS, STREAMS = (1, 1) if QUICK else (7, 3)
EDGES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0)


def main() -> None:
    """Print the swaps that are found, and both histograms."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    swaps = {grade: _swaps(grade, seed) for grade in SWAPS}
    figures = {"found": swaps, **_quiet(seed)}
    report(figures, "numpy")


def _swaps(grade: str, seed: int) -> dict[str, object]:
    """Return the figures of one grade over its pairs, streams and moments, in the deadline of the grade."""
    delays, calls, steady, alerts = list[float](), list[int](), 0.0, 0
    draws = 0
    for pair in SWAPS[grade]:
        for number in range(STREAMS):
            for found, warm_up_s, before in _stream(pair, DEADLINES[grade], np.random.default_rng([seed, number])):
                draws, steady, alerts = draws + 1, steady + warm_up_s / 86_400, alerts + before
                if found is not None:
                    delays.append(found[0])
                    calls.append(found[1])
    low, high = wilson(len(delays), draws)
    figures: dict[str, object] = {
        "draws": draws,
        "found": len(delays),
        "interval": [round(low, 2), round(high, 2)],
        "min": [round(float(np.quantile(delays, q)), 1) for q in (0.5, 0.9)] if delays else [],
        "calls": [round(float(np.quantile(calls, q))) for q in (0.5, 0.9)] if calls else [],
        "false": alerts,
        "false_over_days": round(steady, 2),
    }
    print(f"{grade:14}{figures}", flush=True)
    return figures


def _stream(
    pair: tuple[str, str], deadline_min: float, draws: np.random.Generator
) -> Iterator[tuple[tuple[float, int] | None, float, int]]:
    """Yield ((minutes, calls) to the alert or None, seconds of warm-up, alerts in it) for two moments."""
    texts = Answers.of(*pair)
    world = texts.world(m_large(draws, 0.1 + deadline_min / 1440), int(draws.integers(2**31)))
    watch, calls, dimension = Watch("app", "output", WatchConfig()), world.calls, world.naming.dimension
    begin, done, before = int(calls.t[0]), 0, 0
    for t0 in sorted((begin + draws.uniform(0.07, 0.1, 2) * DAY).astype(np.int64).tolist()):
        first, last = np.searchsorted(calls.t, [t0, t0 + deadline_min * MINUTE]).tolist()
        usual = _join(texts.answers, calls.answer[done:first], calls.t[done:first], calls.client[done:first], dimension)
        before, done = sum(alert.state == "firing" for alert in watch.step(usual)), first
        swapped = calls.text[first:last] + len(texts.instructions)
        after = _join(texts.answers, swapped, calls.t[first:last], calls.client[first:last], dimension)
        fork, found = Watch.restore(watch.snapshot(), watch.config), None
        for i, point in enumerate(after):
            if fork.step([point]):
                found = (point.ts - t0) / MINUTE, i + 1
                break
        yield found, (t0 - begin) / 1e6, before
        begin = t0


def m_large(draws: np.random.Generator, days: float) -> World:
    """Return so many days of m-large."""
    return world_of("m-large", float(draws.uniform(0, 13)), days, int(draws.integers(2**31)))


def _join(texts: Sequence[str], answers: Array, times: Array, clients: Array, dimension: str) -> list[Point]:
    samples = [
        structs.replace(Sample(f"c{t}", "app", "output", texts[a][:TEXT_CHARS], t, 0, i), **{dimension: f"client-{c}"})
        for i, (a, t, c) in enumerate(zip(answers.tolist(), times.tolist(), clients.tolist(), strict=True))
    ]
    return join(samples, times.tolist(), np.zeros((0, 0), np.int8), np.zeros(0, np.float32))


def _quiet(seed: int) -> dict[str, object]:
    """Return both histograms."""
    fresh, again, began, judged = list[float](), list[float](), time.process_time(), 0
    for model in _models():
        points = _points(pool(model)[1][0])
        for number in range(WINDOWS):
            draws = np.random.default_rng([seed, number, *model.encode()])
            order = draws.permutation(len(points))
            first, second = order[: len(order) // 2], order[len(order) // 2 :]
            more = np.concatenate([second, *(draws.permutation(second) for _ in range(4))])
            highest = _highest([points[i] for i in first], [points[i] for i in more])
            fresh.append(max(highest[: len(second)]))
            again.append(max(highest))
            judged += len(more)
    took = time.process_time() - began
    shown = {"fresh": _shown("fresh", fresh), "again": _shown("again", again)}
    return {"windows": len(fresh), **shown, "us_per_answer": round(1e6 * took / judged, 1)}


def _models() -> list[str]:
    import duckdb

    query = "SELECT DISTINCT model FROM read_parquet($1) WHERE model <> 'NullModel' ORDER BY 1"
    path = str(DATA / "texts" / "alpaca_eval_outputs.parquet")
    return [model for (model,) in duckdb.execute(query, [path]).fetchall()]


def _points(answers: Sequence[str]) -> list[Point]:
    samples = [Sample(f"c{i}", "app", "output", text[:TEXT_CHARS], i, 0, i) for i, text in enumerate(answers)]
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
