"""How long an incident stays open after its end, and whether it is one alert: by kind, calls a second and arrivals.

Counts per slot of one app go through the judge, with the stage's own settings: three hours of what is normal, an
incident of three hours, normal traffic again. ``firing`` is the number of incidents (1 is right; 0 where there are
fewer calls than the alarm needs), ``reopened`` how often one came back, ``minutes`` from the end of the incident to
the message about it. Arrivals are Poisson, or in bursts (gamma distributed gaps of shape 0.3). With QUICK=1 an hour
and one seed.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import datetime
from typing import Any

from _report import QUICK, REPO, report

sys.path.insert(0, str(REPO))

from tests.pipelines.detect.counts import KINDS, SECOND, Traffic, played

RATES = (0.1, 0.4, 10.0, 1000.0) if QUICK else (0.01, 0.1, 0.4, 2.0, 10.0, 100.0, 1000.0)
SHAPES: tuple[float | None, ...] = (None, 0.3)
HOURS = 1.0 if QUICK else 3.0
SEEDS = 1 if QUICK else 3


def main() -> None:
    began, cells = time.process_time(), []
    print(f"{'kind':12}{'arrivals':>9}{'calls/s':>9}{'firing':>8}{'reopened':>10}{'updates':>9}{'minutes':>9}")
    for kind in KINDS:
        for shape in SHAPES:
            for rate in RATES:
                cell = measure(kind, rate, shape)
                cells.append(cell)
                minutes = "-" if cell["minutes"] is None else f"{cell['minutes']:.1f}"
                print(
                    f"{kind:12}{'Poisson' if shape is None else 'bursts':>9}{rate:>9g}{cell['firing']:>8g}"
                    f"{cell['reopened']:>10}{cell['updates']:>9g}{minutes:>9}",
                    flush=True,
                )
    fired = [c for c in cells if c["minutes"] is not None]
    report(
        {
            "cells": cells,
            "most_firing": max(c["firing"] for c in cells),
            "reopened": sum(c["reopened"] for c in cells),
            "unresolved": sum(c["unresolved"] for c in cells),
            "most_minutes_at_10_calls_per_s": max(
                (c["minutes"] for c in fired if c["calls_per_s"] >= 10), default=None
            ),
            "cpu_s": round(time.process_time() - began, 1),
        },
        "numpy",
    )


def measure(kind: str, rate: float, shape: float | None) -> dict[str, Any]:
    """Firing count (greatest), reopenings, updates (median) and minutes to resolve (median) over the seeds."""
    firing, reopened, unresolved, updates, minutes = [], 0, 0, [], []
    for seed in range(SEEDS):
        traffic = Traffic(kind, rate, HOURS, seed=seed, shape=shape)
        alerts, _ = played(traffic, after_h=12.0 if rate < 0.1 else 2.0)
        firing.append(len({a.id for a in alerts}))
        reopened += sum(a.state == "firing" and a.seq > 0 for a in alerts)
        updates.append(sum(a.state == "update" for a in alerts))
        unresolved += bool(alerts) and alerts[-1].state != "resolved"
        ends = [datetime.fromisoformat(a.detected_at).timestamp() for a in alerts if a.state == "resolved"]
        minutes += [(ends[-1] - traffic.end / SECOND) / 60] if ends else []
    return {
        "kind": kind,
        "arrivals": "poisson" if shape is None else "bursts",
        "calls_per_s": rate,
        "firing": max(firing),
        "reopened": reopened,
        "unresolved": unresolved,
        "updates": statistics.median(updates),
        "minutes": round(statistics.median(minutes), 1) if minutes else None,
    }


if __name__ == "__main__":
    main()
