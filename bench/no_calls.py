"""How often an app that goes on is called silent, and how soon one that stops is found, on the traffic of real clients.

The clients of ``servegen_realised_14d.parquet`` are the apps: ten days of history, four days that are judged every five
minutes. ``false_alarms_per_app_day`` counts apps that went on. Then each app is cut off at ``CUTS`` moments, and is
judged until it is found: ``delay_min`` and ``missing_calls`` are medians and 90th percentiles over apps and moments;
``found_within_day`` is the share that is found within 24 h. Needs ``../shared/data`` (``TAILRACE_TEST_DATA``).
Run: ``make bench-no_calls``; ``QUICK=1`` judges every half hour. The last line is one JSON object.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import duckdb
import numpy as np
from _report import QUICK, REPO, report

sys.path.insert(0, str(REPO))

from jobs.no_calls import Settings, judge_app

DATA = Path(os.environ.get("TAILRACE_TEST_DATA", REPO.parent / "shared" / "data")) / "traffic"
HISTORY, DAYS, DAY = 10, 14, 1440
STEP = 30 if QUICK else 5
CUTS = 2 if QUICK else 6
MONDAY = 5760
"""A Monday in minutes since 1970; the trace does not say on which day it began."""
_CALLS = """
SELECT model || ' ' || client_id AS app, t_ms // 60_000 AS minute, count(*) AS calls
FROM read_parquet($1) GROUP BY ALL ORDER BY app, minute
"""


def clients() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return app -> (minutes, calls)."""
    rows = duckdb.execute(_CALLS, [str(DATA / "servegen_realised_14d.parquet")]).to_arrow_table().to_pydict()
    names = np.asarray(rows["app"])
    minutes, calls = np.asarray(rows["minute"]) + MONDAY, np.asarray(rows["calls"], float)
    return {name: (minutes[names == name], calls[names == name]) for name in dict.fromkeys(rows["app"])}


def silent(app: str, minutes: np.ndarray, calls: np.ndarray, until: int) -> float | None:
    """Return the calls that are missing where ``app`` is silent at ``until``."""
    before = np.searchsorted(minutes, until)
    found = judge_app(app, minutes[:before], calls[:before], start=MONDAY, until=until, settings=Settings())
    return None if found is None else found.missing


def main() -> None:
    if not DATA.is_dir():
        raise SystemExit(f"no data in {DATA}: set TAILRACE_TEST_DATA")
    begin, end = MONDAY + HISTORY * DAY, MONDAY + DAYS * DAY
    false, judged, delays, missing, unfound = 0, 0, [], [], 0
    draws = np.random.default_rng(1)
    for app, (minutes, calls) in clients().items():
        last = int(minutes[-1])
        if calls[minutes < begin].sum() < Settings().min_calls or last < begin:
            continue
        judged += 1
        went_on = min(last, end)
        inside = False
        for until in range(begin, went_on, STEP):
            found = silent(app, minutes, calls, until) is not None
            false += found and not inside
            inside = found
        for cut in draws.integers(begin, end, CUTS):
            before = minutes < cut
            kept, counts = minutes[before], calls[before]
            for until in range(int(cut), int(cut) + DAY, STEP):
                lost = silent(app, kept, counts, until)
                if lost is not None:
                    delays.append(until - int(kept[-1]) - 1)
                    missing.append(lost)
                    break
            else:
                unfound += 1
    cases = len(delays) + unfound
    report(
        {
            "apps": judged,
            "app_days": judged * (DAYS - HISTORY),
            "false_alarms": false,
            "false_alarms_per_app_day": round(false / (judged * (DAYS - HISTORY)), 5),
            "cases": cases,
            "found_within_day": round(len(delays) / cases, 3),
            "delay_min": [round(float(np.quantile(delays, q)), 1) for q in (0.5, 0.9)],
            "missing_calls": [round(float(np.quantile(missing, q)), 1) for q in (0.5, 0.9)],
        },
        "numpy",
    )


if __name__ == "__main__":
    main()
