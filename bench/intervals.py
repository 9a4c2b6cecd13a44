"""How often the 95 % intervals of the quality report cover the truth: Wilson's, and the bootstrap's.

    .venv/bin/python bench/intervals.py     # QUICK=1: 100 draws of each case

Six strata of 100,000 to 60 calls, of which 400 to 30 are drawn, 1,000 times; scores of yes or no and graded ones; over
all calls, and over a domain that has a share of each stratum. ``near 1`` are rates of success from 98.5 to 80 %.
The last line is one JSON object.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
from _report import QUICK, report

from jobs.evals.weights import Sample, estimates

CALLS = np.array([100_000, 20_000, 5_000, 800, 200, 60])
TAKEN = np.array([400, 200, 100, 60, 40, 30])
USUAL, NEAR = (0.95, 0.8, 0.6, 0.3, 0.9, 0.1), (0.985, 0.97, 0.95, 0.9, 0.9, 0.8)
DRAWS = 100 if QUICK else 1_000
REPLICATES = 300
"""The report takes 1,000, whose percentiles are less noisy."""
CASES = {
    "yes or no, all calls": (USUAL, True, 1.0),
    "yes or no, 30 % of the calls": (USUAL, True, 0.3),
    "yes or no, 12 % of the calls": (USUAL, True, 0.12),
    "graded, all calls": (USUAL, False, 1.0),
    "graded, 30 % of the calls": (USUAL, False, 0.3),
    "near 1, all calls": (NEAR, True, 1.0),
    "near 1, 30 % of the calls": (NEAR, True, 0.3),
    "near 1, 12 % of the calls": (NEAR, True, 0.12),
}


def covered(truths: tuple[float, ...], binary: bool, share: float) -> dict[str, float]:
    """Return the share of the draws whose interval covers the truth, and the mean width, by method."""
    rng = np.random.default_rng(20_261_118)
    strata = []
    for calls, truth in zip(CALLS, truths, strict=True):
        scores = (rng.random(calls) < truth).astype(float) if binary else np.clip(rng.normal(truth, 0.15, calls), 0, 1)
        strata.append((scores, rng.random(calls) < share))
    truth = float(np.concatenate([scores[inside] for scores, inside in strata]).mean())
    hits, widths, known = np.zeros(2), np.zeros(2), 0
    for _ in range(DRAWS):
        at = [
            rng.permutation(n)[:k] if n < 1_000 else rng.integers(n, size=k) for n, k in zip(CALLS, TAKEN, strict=True)
        ]
        values = np.concatenate([scores[mine] for (scores, _), mine in zip(strata, at, strict=True)])
        inside = np.concatenate([domain[mine] for (_, domain), mine in zip(strata, at, strict=True)])
        columns = (np.repeat(CALLS / TAKEN, TAKEN), np.repeat(np.arange(6), TAKEN))
        sample, domains = Sample(values, *columns), np.where(inside, 0, -1)
        found = [estimates(replace(sample, replicates=n), domains, 1)[0] for n in (0, REPLICATES)]
        bounds = [(each.low, each.high) for each in found if each.low is not None and each.high is not None]
        if len(bounds) < len(found):
            continue
        known += 1
        hits += [low <= truth <= high for low, high in bounds]
        widths += [high - low for low, high in bounds]
    return {
        "wilson": round(float(100 * hits[0] / known), 1),
        "bootstrap": round(float(100 * hits[1] / known), 1),
        "wilson_points": round(float(100 * widths[0] / known), 2),
        "bootstrap_points": round(float(100 * widths[1] / known), 2),
    }


def main() -> None:
    """Print a line for each case, and all of them as JSON."""
    began, cpu, rows = time.monotonic(), time.process_time(), {}
    for name, case in CASES.items():
        rows[name] = covered(*case)
        print(f"{name:32} {rows[name]}", flush=True)
    took = {"took_s": round(time.monotonic() - began, 1), "cpu_s": round(time.process_time() - cpu, 1)}
    report({"coverage": rows, "draws": DRAWS, **took}, "numpy", "scipy")


if __name__ == "__main__":
    main()
