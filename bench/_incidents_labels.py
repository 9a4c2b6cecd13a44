"""What a job that reads the lake finds: S12 hallucinations, S13 worse answers, S19 an index without some documents.

The job ``live_quality`` counts labels in SQL and judges them in pure functions. Here the labels are counted from real
ones (RefChecker's, GSM8K's, WildBench's) at the arrival times of m-large, and the same functions judge them: ``judge``
every five minutes, as the job does, and ``judge_index`` every hour. No lake is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from _incidents_baselines import NAMES
from _incidents_calls import DAY, HOUR, MINUTE, MODELS, SECOND, Array
from _incidents_worlds import DATA, World, world

from jobs.live_quality.documents import judge_index
from jobs.live_quality.judge import Settings, judge, worst
from jobs.live_quality.labels import HOUR_S, RECENT, SLOT_S, Counts, Series

Result = dict[str, Any]
LATE = 10 * MINUTE
"""A label comes so long after its call."""
_REFCHECKER = (
    "SELECT any_unsupported::INT AS bad FROM read_parquet($1) WHERE any_unsupported IS NOT NULL AND {} ORDER BY ALL"
)
_OF = {
    "gpt4": ("refchecker_hallucination", _REFCHECKER.format("model = 'gpt4' AND setting = 'accurate_context'")),
    "gpt4 lost": ("refchecker_hallucination", _REFCHECKER.format("model = 'gpt4' AND setting = 'zero_context'")),
    "alpaca": ("refchecker_hallucination", _REFCHECKER.format("model = 'alpaca_7B' AND setting = 'accurate_context'")),
    "chatgpt": ("refchecker_hallucination", _REFCHECKER.format("model = 'chatgpt' AND setting = 'accurate_context'")),
    "claude2": ("refchecker_hallucination", _REFCHECKER.format("model = 'claude2' AND setting = 'accurate_context'")),
    "verification": (
        "gsm8k_model_solutions",
        "SELECT (NOT is_correct)::INT AS bad FROM read_parquet($1) WHERE model = '175b_verification' ORDER BY ALL",
    ),
    "finetuning": (
        "gsm8k_model_solutions",
        "SELECT (NOT is_correct)::INT AS bad FROM read_parquet($1) WHERE model = '175b_finetuning' ORDER BY ALL",
    ),
    "qwen": (
        "wildbench_judged_outputs",
        "SELECT 1 - judge_score_1_10 / 10.0 AS bad FROM read_parquet($1) "
        "WHERE model = 'Qwen1.5-72B-Chat' AND judge_score_1_10 IS NOT NULL ORDER BY ALL",
    ),
    "gpt-3.5": (
        "wildbench_judged_outputs",
        "SELECT 1 - judge_score_1_10 / 10.0 AS bad FROM read_parquet($1) "
        "WHERE model LIKE 'gpt-3.5-turbo%' AND judge_score_1_10 IS NOT NULL ORDER BY ALL",
    ),
}


@dataclass(frozen=True)
class Labelled:
    """One grade: labels of ``before``, then of ``after``, on a share of the calls."""

    name: str
    before: str
    after: str
    sample: float
    deadline_min: float


GRADES = (
    Labelled("S12 unsupported, large", "gpt4", "alpaca", 0.05, 30),
    Labelled("S12 unsupported, context", "gpt4", "gpt4 lost", 0.05, 30),
    Labelled("S12 unsupported, fine", "chatgpt", "claude2", 0.05, 1440),
    Labelled("S13 correct 56 to 35 %", "verification", "finetuning", 0.1, 45),
    Labelled("S13 score 7.2 to 6.6", "qwen", "gpt-3.5", 0.1, 240),
)
DOCUMENTS = {"S19 10 % of documents": 0.1, "S19 20 % of documents": 0.2, "S19 50 % of documents": 0.5}
DOCUMENTS_DEADLINE_MIN = 420.0
"""The window of six hours in which a document did not come, and the hour between two runs: the page has none."""
_MOST, _PER_CALL, _CLIENTS = 2_000, 3, 12
STEP = SLOT_S * SECOND


def outcomes(name: str) -> Array:
    """(n,) outcomes in [0, 1] of real answers; 1 is bad."""
    file, query = _OF[name]
    found = duckdb.execute(query, [str(DATA / "texts" / f"{file}.parquet")]).fetchnumpy()
    return np.asarray(found["bad"], np.float64)


def labels(seed: int, draws_each: int) -> Iterable[Result]:
    """Yield a result for every grade of S12 and S13 and moment, and one for nine days without an incident each."""
    found = world("m-large", 0, 14, seed)
    begin, end = int(found.calls.t[0]), int(found.calls.t[-1])
    for grade in GRADES:
        draws = np.random.default_rng([seed, 12, *grade.name.encode()])
        before, after = outcomes(grade.before), outcomes(grade.after)
        sampled = np.flatnonzero(draws.random(len(found.calls)) < grade.sample)
        usual, other = draws.choice(before, len(sampled)), draws.choice(after, len(sampled))
        calm = Table(found, sampled, usual)
        moments = draws.integers(begin + 5 * DAY, end - int(grade.deadline_min * MINUTE) - HOUR, draws_each)
        for t0 in sorted(moments.tolist()):
            changed = Table(found, sampled, np.where(found.calls.t[sampled] >= t0, other, usual))
            deadline = t0 + int(grade.deadline_min * MINUTE)
            runs = range(t0 - t0 % STEP + STEP, deadline + 1, STEP)
            first = next((at for at in runs if changed.alerts(at)), None)
            hits = found.calls.t[(found.calls.t >= t0) & (found.calls.t < deadline)]
            yield _result(grade.name, t0, hits, first, any(calm.alerts(at) for at in runs[::4]))
        rings = [calm.alerts(at) for at in range((begin + 5 * DAY) // HOUR * HOUR, end, HOUR)]
        name = f"{grade.name.split()[0]} labels, {grade.before}"
        yield _calm(name, (end - begin) / DAY - 5, _begun(rings))


class Table:
    """Labels by series: by hours, and by the five minutes in which the job counts those of the last three days."""

    def __init__(self, found: World, sampled: Array, bad: Array) -> None:
        second = (found.calls.t[sampled] + LATE) // SECOND
        parts = [(Series("assistant", "score", "judge", ""), np.ones(len(sampled), bool))]
        for number, (_, name) in enumerate(MODELS):
            parts.append(
                (Series("assistant", "score", "judge", "", "model", name), found.calls.model[sampled] == number)
            )
        for client in sorted(found.shares, key=lambda c: -found.shares[c])[:_CLIENTS]:
            series = Series("assistant", "score", "judge", "", "feature", f"client-{client}")
            parts.append((series, found.calls.client[sampled] == client))
        self.slots = {
            series: [_summed(second[mine] // size * size, bad[mine]) for size in (HOUR_S, SLOT_S)]
            for series, mine in parts
        }

    def counts(self, now_s: int, recent: int) -> Counts:
        """Return what the job counts at ``now_s``; it tests what came from ``recent`` on. Seconds."""
        return {
            series: {at: v for at, v in hours.items() if at < recent}
            | {at: v for at, v in slots.items() if recent <= at < now_s}
            for series, (hours, slots) in self.slots.items()
        }

    def alerts(self, now: int) -> bool:
        """Whether the job alerts at ``now`` (µs, where five minutes end): on the app, or on a part of it."""
        now_s = now // SECOND
        recent = (now_s - int(RECENT.total_seconds())) // HOUR_S * HOUR_S
        return bool(worst(judge(self.counts(now_s, recent), recent, {}, Settings()), Settings()))


def _summed(slots: Array, bad: Array) -> dict[int, tuple[float, int]]:
    unique, index = np.unique(slots, return_inverse=True)
    sums, sizes = np.bincount(index, weights=bad), np.bincount(index)
    return {int(at): (float(b), int(n)) for at, b, n in zip(unique, sums, sizes, strict=True)}


def _begun(rings: list[bool]) -> int:
    """Return how often an alert begins."""
    return sum(now and not before for before, now in zip([False, *rings], rings, strict=False))


def documents(seed: int, draws_each: int) -> Iterable[Result]:
    """Yield a result for every grade of S19 and moment: some of the documents of an index are gone.

    How often a document is retrieved is written by hand (Zipf's law over 2,000 documents, three a call), for the data
    have no retrievals.
    """
    found = world("m-large", 0, 14, seed)
    begin, end = int(found.calls.t[0]), int(found.calls.t[-1])
    draws = np.random.default_rng([seed, 19])
    weights = 1 / np.arange(1, _MOST + 1)
    times = np.repeat(found.calls.t, _PER_CALL)
    drawn = draws.choice(_MOST, len(times), p=weights / weights.sum())
    for name, share in DOCUMENTS.items():
        for t0 in sorted(draws.integers(begin + 5 * DAY, end - 8 * HOUR, draws_each).tolist()):
            gone = draws.random(_MOST) < share
            kept = ~(gone[drawn] & (times >= t0))
            runs = range(t0 - t0 % HOUR + HOUR, t0 + int(DOCUMENTS_DEADLINE_MIN * MINUTE) + 1, HOUR)
            first = next((at for at in runs if _vanished(times[kept], drawn[kept], begin, at)), None)
            luck = any(_vanished(times, drawn, begin, at) for at in runs)
            hits = np.sort(times[~kept])
            yield _result(name, t0, hits, first, luck)
    rings = [_vanished(times, drawn, begin, at) for at in range(begin + 5 * DAY, end, HOUR)]
    yield _calm("S19 documents", (end - begin) / DAY - 5, _begun(rings))


def _vanished(times: Array, drawn: Array, begin: int, now: int) -> bool:
    windows = (now - begin) // (6 * HOUR)
    inside = (times < now) & (times >= now - windows * 6 * HOUR)
    counts = np.zeros((_MOST, windows), np.int64)
    np.add.at(counts, (drawn[inside], (now - 1 - times[inside]) // (6 * HOUR)), 1)
    judged = judge_index("assistant", "docs", 6, counts)
    return judged is not None and judged.is_worse


def _result(name: str, t0: int, hits: Array, first: int | None, luck: bool) -> Result:
    nothing = {"found": False, "delay_min": None, "delay_calls": None, "named": False, "luck": False, "alerts": 0}
    mine = nothing | {"luck": luck}
    if first is not None:
        delay: Result = {"delay_min": round((first - t0) / MINUTE, 2), "delay_calls": int(np.searchsorted(hits, first))}
        mine |= {"found": True, "named": True, "alerts": 1, **delay}
    baselines = {each: nothing for each in NAMES}
    return {
        "kind": "draw",
        "scenario": name,
        "t0": t0,
        "where": [],
        "affected": len(hits),
        "least_min": None,
        "tailrace": mine,
        **baselines,
    }


def _calm(name: str, days: float, raised: int) -> Result:
    none = dict.fromkeys(NAMES, 0)
    return {
        "kind": "quiet",
        "scenario": name,
        "days": days,
        "series": 16,
        "tailrace": raised,
        "beyond_volume": raised,
        "said": [],
        **none,
    }
