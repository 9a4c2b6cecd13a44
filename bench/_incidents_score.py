"""From results to figures: shares with Wilson intervals, delays, false alarms a day, and the table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from _incidents_calls import MINUTE
from _incidents_scenarios import NOT_WATCHED, SCENARIOS

from pipelines.detect.detectors.surge import Surge

Result = dict[str, Any]
AIMS = {
    "S1": 0.9,
    "S2": 0.8,
    "S4": 0.8,
    "S5": 0.8,
    "S7": 0.8,
    "S12": 0.8,
    "S13": 0.8,
    "S15": 0.8,
    "S16": 0.8,
    "S19": 0.8,
}
"""Least share that is to be found in time, by kind; the others 0.9."""
NEVER = 1e6
"""Multiple of the least delay that stands for what was not found at all, within the time that was played."""
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
QUIET_AIMS = {"Q1": 1 / 12, "Q2": 0.3, "Q3": 0.0, "Q4": 1 / 7, "Q5": 0.0, "Q6": 0.0, "Q7": 1.0}
"""Most false alarms a day; on Q2 beyond volume, on Q7 messages."""


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return the interval of a share (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    share, z2 = hits / total, z * z
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = z * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total)) / (1 + z2 / total)
    return max(0.0, centre - half), min(1.0, centre + half)


def least_minutes(draw: Result, evidence: float) -> float | None:
    """Return how long any test needs that has a false alarm in e^``evidence`` looks; None where it is not known.

    Where calls themselves have changed: until the fewest of them are there of which an alert is made.

    With the shares known beforehand it takes ``evidence`` / KL(after | before) calls of the slice on average (Lorden
    1971; Wald 1947).
    """
    scenario = BY_NAME.get(draw.get("scenario", ""))
    if (least := draw.get("least_min")) is not None:
        return float(least)
    if scenario is None or scenario.shares is None or not draw["affected"]:
        return None
    before, after = scenario.shares
    gain = after * math.log(after / before)
    gain += (1 - after) * math.log((1 - after) / (1 - before)) if after < 1 else 0.0
    calls_a_minute = draw["affected"] / (after - before) / (scenario.lasts / MINUTE)
    return evidence / gain / calls_a_minute


def figures(draws: Sequence[Result], name: str) -> Result:
    """Return the figures of one detector over some draws."""
    cases = [draw[name] for draw in draws]
    hits = sum(c["found"] for c in cases)
    found = [c for c in cases if c["found"]]
    low, high = wilson(hits, len(cases))
    luck = sum(c["luck"] for c in cases) / max(len(cases), 1)
    share = hits / max(len(cases), 1)
    return {
        "draws": len(cases),
        "found": hits,
        "found_share": round(share, 3),
        "interval": [round(low, 3), round(high, 3)],
        "above_luck": round(max(0.0, (share - luck) / (1 - luck)) if luck < 1 else 0.0, 3),
        "luck": round(luck, 3),
        "delay_min": _quantiles(c["delay_min"] for c in found),
        "delay_calls": _quantiles(c["delay_calls"] for c in found),
        "alerts": round(float(np.mean([c["alerts"] for c in found])), 2) if found else None,
        "one_alert_share": round(float(np.mean([c["alerts"] == 1 for c in found])), 3) if found else None,
        "slice_named_share": round(float(np.mean([c["named"] for c in found])), 3) if found else None,
        "attainable_share": _attainable(draws),
        **_against_least(draws, name),
    }


def _against_least(draws: Sequence[Result], name: str) -> Result:
    """Median of what any test needs, and of the delay as a multiple of it, over all draws of which that is known."""
    known = [(m, d[name]["delay_min"]) for d in draws if (m := least_minutes(d, Surge.evidence))]
    if not known:
        return {"least_min": None, "times_least": None}
    times = [NEVER if delay is None else delay / least for least, delay in known]
    least = float(np.median([least for least, _ in known]))
    return {"least_min": round(least, 2), "times_least": round(float(np.median(times)), 2)}


def _attainable(draws: Sequence[Result]) -> float | None:
    """Share of the draws in which what any test needs is there in time."""
    known = [(m, BY_NAME[d["scenario"]]) for d in draws if (m := least_minutes(d, Surge.evidence)) is not None]
    return round(sum(m <= scenario.deadline_min for m, scenario in known) / len(known), 3) if known else None


def total(results: Sequence[Result], name: str) -> Result:
    """Return the figures of one detector over all scenarios: what the last line of the bench holds."""
    draws = [r for r in results if r["kind"] == "draw"]
    quiet = [r for r in results if r["kind"] == "quiet"]
    found = figures(draws, name)
    days = sum(r["days"] for r in quiet)
    keys = ("found", "found_share", "above_luck", "slice_named_share")
    return {
        **{key: found[key] for key in keys},
        "total": found["draws"],
        "alerts_per_incident": found["alerts"],
        "false_per_day": round(sum(r[name] for r in quiet) / days, 3) if days else None,
    }


def show(results: Sequence[Result], names: Sequence[str], say: Callable[[str], None]) -> None:
    """Print the table of scenarios, with the baselines beside it, and that of the quiet stretches."""
    draws = [r for r in results if r["kind"] == "draw"]
    head = f"{'scenario':26}{'draws':>6}{'found':>7}{'interval':>13}{'luck':>6}{'min p50/p90':>13}{'calls p50/p90':>15}"
    say(f"{head}{'least':>7}{'x':>7}{'alerts':>8}{'named':>7}{'aim':>7}" + "".join(f"{name:>19}" for name in names))
    for scenario in dict.fromkeys(r["scenario"] for r in draws):
        mine = [r for r in draws if r["scenario"] == scenario]
        say(_line(scenario, mine) + "".join(f"{_short(mine, name):>19}" for name in names))
    for scenario, why in NOT_WATCHED.items():
        say(f"{scenario:32}{0:7.0%}   not watched: {why}")
    say("")
    say(
        f"{'nothing injected':26}{'days':>6}{'series':>8}{'alarms':>8}{'a day':>8}{'aim':>7}"
        + "".join(f"{n:>19}" for n in names)
    )
    for scenario in dict.fromkeys(r["scenario"] for r in results if r["kind"] == "quiet"):
        say(_quiet_line([r for r in results if r["kind"] == "quiet" and r["scenario"] == scenario], names))


def _line(scenario: str, draws: Sequence[Result]) -> str:
    f = figures(draws, "tailrace")
    least = "-" if f["least_min"] is None else f"{f['least_min']:.1f}"
    times = "-" if f["times_least"] is None else f"{f['times_least']:.1f}" if f["times_least"] < 1000 else "never"
    aim = AIMS.get(scenario.split()[0], 0.9)
    interval = f"{f['interval'][0]:.0%}-{f['interval'][1]:.0%}"
    minutes = "/".join(f"{v:.1f}" for v in f["delay_min"]) or "-"
    calls = "/".join(f"{v:.0f}" for v in f["delay_calls"]) or "-"
    alerts = "-" if f["alerts"] is None else f"{f['alerts']:.1f}"
    named = "-" if f["slice_named_share"] is None else f"{f['slice_named_share']:.0%}"
    held = f"{aim:.0%}" if f["found_share"] < aim else "met" if f["above_luck"] >= aim else "luck"
    return (
        f"{scenario:26}{f['draws']:6}{f['found_share']:7.0%}{interval:>13}{f['luck']:6.0%}{minutes:>13}{calls:>15}{least:>7}"
        f"{times:>7}{alerts:>8}{named:>7}{held:>7}"
    )


def _short(draws: Sequence[Result], name: str) -> str:
    f = figures(draws, name)
    return f"{f['found_share']:.0%} (luck {f['luck']:.0%})"


def _quiet_line(rows: Sequence[Result], names: Sequence[str]) -> str:
    name, days = rows[0]["scenario"], sum(r["days"] for r in rows)
    key = name.split()[0]
    alarms = sum(r["beyond_volume" if key == "Q2" else "tailrace"] for r in rows)
    aim = QUIET_AIMS.get(key)
    wanted = "" if aim is None else "met" if alarms <= aim * days + 1e-9 else f"{aim:.2f}"
    more = "".join(f"{sum(r[n] for r in rows) / days:19.1f}" for n in names)
    return f"{name:26}{days:6.2f}{max(r['series'] for r in rows):8}{alarms:8}{alarms / days:8.2f}{wanted:>7}{more}"


def _quantiles(values: Iterable[float]) -> list[float]:
    found = list(values)
    return [round(float(np.quantile(found, q)), 1) for q in (0.5, 0.9)] if found else []
