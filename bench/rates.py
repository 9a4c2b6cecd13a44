"""How soon each kind of incident is found at 0.05, 0.5, 5 and 50 calls a second, against what any test needs.

Counts per slot of one app go through the judge, with the stage's own settings and a tick each two seconds: two days of
what is normal, then an incident. ``least`` is what a test needs on average that knows both distributions beforehand and
gives as few false alarms as surge (evidence / KL(after | before); Wald 1947, Lorden 1971), in minutes of this traffic,
and in any case the end of the slot of ten seconds and five more for the calls to arrive. ``x`` is the delay as a
multiple of it, median over the draws. A draw that is not found in 60 times the least time, at most six hours, counts as
not found.

    python bench/rates.py [--seeds N] [--seed FIRST]     # QUICK=1: 5 seeds instead of 20

Each line is printed when it is measured. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from datetime import datetime
from typing import Any

import numpy as np
from _report import QUICK, REPO, report

sys.path.insert(0, str(REPO))

from pipelines.detect.detectors import DETECTORS
from pipelines.detect.detectors.surge import Surge
from pipelines.detect.judge import Judge, PartitionState
from tests.pipelines.detect.counts import SECOND, T0, Traffic, applied

RATES = (0.05, 0.5, 5.0, 50.0)
HISTORY_H = 48.0
SLOT_MIN = 15 / 60
"""Minutes: a slot of ten seconds, and five for its calls to arrive."""
SPREAD = 0.5
"""Standard deviation of the logarithm of a call's cost in this traffic."""


def _share(before: float, after: float) -> float:
    """Return the nats that a call gives on average where a share goes from ``before`` to ``after``."""
    return after * math.log(after / before) + (1 - after) * math.log((1 - after) / (1 - before))


GAINS = {
    "truncated": ("truncated answers 1 to 6 percent", _share(0.01, 0.06)),
    "blocked": ("blocked calls 1 to 40 percent", _share(0.01, 0.4)),
    "dear_calls": ("calls that cost four times as much", math.log(4) ** 2 / (2 * SPREAD**2)),
    "tenfold": ("ten times the calls", 10 * math.log(10) - 9),
}
"""Kind -> (in words, nats a usual call's time gives to a test that knows both)."""


def main() -> None:
    """Print a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5 if QUICK else 20)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    options = parser.parse_args()
    began, cells = time.process_time(), []
    print(f"{'incident':36}{'calls/s':>9}{'found':>10}{'least min':>11}{'p50 min':>9}{'p90 min':>9}{'x':>7}")
    for kind, (words, gain) in GAINS.items():
        for rate in RATES:
            cell = measure(kind, gain, rate, range(options.seed, options.seed + options.seeds))
            cells.append(cell)
            p50, p90, x = ("-" if cell[k] is None else f"{cell[k]:.1f}" for k in ("p50_min", "p90_min", "x"))
            found = f"{cell['found']} of {cell['draws']}"
            print(f"{words:36}{rate:>9g}{found:>10}{cell['least_min']:>11.1f}{p50:>9}{p90:>9}{x:>7}", flush=True)
    multiples = [cell["x"] for cell in cells if cell["x"] is not None]
    report(
        {
            "cells": cells,
            "most_x": max(multiples, default=None),
            "found": sum(cell["found"] for cell in cells),
            "draws": sum(cell["draws"] for cell in cells),
            "cpu_s": round(time.process_time() - began, 1),
        },
        "numpy",
    )


def measure(kind: str, gain: float, rate: float, seeds: range) -> dict[str, Any]:
    """Return how many draws of one kind are found at one rate, how soon, and against what any test needs."""
    least = max(Surge.evidence / gain / rate / 60, SLOT_MIN)
    delays = [delay(kind, rate, min(60 * least, 360.0), seed) for seed in seeds]
    found = [value for value in delays if value is not None]
    every = [math.inf if value is None else value / least for value in delays]
    x = float(np.quantile(every, 0.5, method="inverted_cdf"))
    return {
        "kind": kind,
        "calls_per_s": rate,
        "draws": len(delays),
        "found": len(found),
        "least_min": round(least, 2),
        "p50_min": round(float(np.quantile(found, 0.5)), 2) if found else None,
        "p90_min": round(float(np.quantile(found, 0.9)), 2) if found else None,
        "x": round(x, 2) if math.isfinite(x) else None,
    }


def delay(kind: str, rate: float, minutes: float, seed: int) -> float | None:
    """Return the minutes from the beginning of the incident to its first alert; None: not in ``minutes``."""
    traffic = Traffic(kind, rate, minutes / 60, seed=seed, history_h=HISTORY_H)
    judge, state = Judge(DETECTORS), PartitionState()
    traffic.learn(judge, state)
    for item in traffic.live(T0 + int(minutes * 60 * SECOND), ticks=5):
        for alert in applied(judge, state, item):
            if alert.state == "firing":
                return (datetime.fromisoformat(alert.detected_at).timestamp() - T0 / SECOND) / 60
    return None


if __name__ == "__main__":
    main()
