"""How long an incident stays open after its end, and whether it is one alert: by kind, calls a second and arrivals.

Counts per slot of one app go through the judge, with the stage's own settings: three hours of what is normal, an
incident of three hours, normal traffic again. ``firing`` is the number of incidents (1 is right; 0 where there are
fewer calls than the alarm needs), ``early`` how many were resolved while they lasted, ``reopened`` how often one came
back, ``minutes`` from the end of the incident to the message about it. What is detected in the history before does not
count. Arrivals are Poisson, or in bursts (gamma distributed gaps of shape 0.3).

    python bench/recovery.py [--seeds N] [--hours H] [--rates 0.01,0.1] [--kinds loop,tenfold]

The full form has three seeds; with QUICK=1 an hour and one seed. Each line is printed when it is measured.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from datetime import datetime
from typing import Any

from _report import QUICK, REPO, report

sys.path.insert(0, str(REPO))

from tests.pipelines.detect.counts import KINDS, SECOND, T0, Traffic, played

RATES = (0.1, 0.4, 10.0, 1000.0) if QUICK else (0.01, 0.1, 0.4, 2.0, 10.0, 100.0, 1000.0)
SHAPES: tuple[float | None, ...] = (None, 0.3)
HOURS = 1.0 if QUICK else 3.0
SEEDS = 1 if QUICK else 3


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--hours", type=float, default=HOURS)
    parser.add_argument("--rates", type=lambda text: [float(each) for each in text.split(",")], default=RATES)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=KINDS)
    return parser.parse_args()


def main() -> None:
    options = _options()
    began, cells = time.process_time(), []
    print(
        f"{'kind':12}{'arrivals':>9}{'calls/s':>9}{'firing':>8}{'early':>7}{'reopened':>10}{'updates':>9}{'minutes':>9}"
    )
    for kind in options.kinds:
        for shape in SHAPES:
            for rate in options.rates:
                cell = measure(kind, rate, shape, options)
                cells.append(cell)
                minutes = "-" if cell["minutes"] is None else f"{cell['minutes']:.1f}"
                print(
                    f"{kind:12}{'Poisson' if shape is None else 'bursts':>9}{rate:>9g}{cell['firing']:>8g}"
                    f"{cell['early']:>7}{cell['reopened']:>10}{cell['updates']:>9g}{minutes:>9}",
                    flush=True,
                )
    fired = [c for c in cells if c["minutes"] is not None]
    report(
        {
            "cells": cells,
            "most_firing": max(c["firing"] for c in cells),
            "runs": len(cells) * options.seeds,
            "fired": sum(c["fired"] for c in cells),
            "early": sum(c["early"] for c in cells),
            "reopened": sum(c["reopened"] for c in cells),
            "unresolved": sum(c["unresolved"] for c in cells),
            "most_minutes_at_10_calls_per_s": max(
                (c["minutes"] for c in fired if c["calls_per_s"] >= 10), default=None
            ),
            "cpu_s": round(time.process_time() - began, 1),
        },
        "numpy",
    )


def measure(kind: str, rate: float, shape: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """Firing count (greatest), reopenings, updates (median) and minutes to resolve (median) over the seeds."""
    firing, early, reopened, unresolved, updates, minutes = [], 0, 0, 0, [], []
    for seed in range(options.seeds):
        traffic = Traffic(kind, rate, options.hours, seed=seed, shape=shape)
        alerts, _ = played(traffic, after_h=12.0 if rate < 0.1 else 2.5)
        alerts = [a for a in alerts if _seconds(a.detected_at) > T0 / SECOND]
        early += any(a.state == "resolved" and _seconds(a.detected_at) < traffic.end / SECOND for a in alerts)
        firing.append(len({a.id for a in alerts}))
        reopened += sum(a.state == "firing" for a in alerts[1:] if a.seq > 0)
        updates.append(sum(a.state == "update" for a in alerts))
        unresolved += bool(alerts) and alerts[-1].state != "resolved"
        ends = [_seconds(a.detected_at) for a in alerts if a.state == "resolved"]
        minutes += [(ends[-1] - traffic.end / SECOND) / 60] if ends else []
    return {
        "kind": kind,
        "arrivals": "poisson" if shape is None else "bursts",
        "calls_per_s": rate,
        "firing": max(firing),
        "fired": sum(map(bool, firing)),
        "early": early,
        "reopened": reopened,
        "unresolved": unresolved,
        "updates": statistics.median(updates),
        "minutes": round(statistics.median(minutes), 1) if minutes else None,
    }


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


if __name__ == "__main__":
    main()
