"""What detection of a backlog costs: 14 days of 16 apps, and a year with ten events.

In the backlog a tick follows each six hours of calls: meter writes a tick a second, in which it reads as many.
Both go through the judge as the stage runs it, slice by slice; between two slices the stage sends alerts, heartbeats
and checkpoints. ``longest_ms``: the longest slice, the wall time for which a loop would be held (``longest_cpu_ms``: in
CPU time). ``cpu_s_per_app_day``, ``app_buckets_per_s`` (of one core, CPU time), ``rss_mb``. ``one_by_one_per_s`` is the
same judge with every bucket judged by itself, in the same run, over the first hours. ``ratio`` is between the two, and
``alerts_equal`` compares their alerts. ``before_per_s`` is what was recorded before judging was sliced and vectorised
(270 app-buckets a second; not of this run). ``--busy`` keeps every core busy with other processes meanwhile.

``live``: 16 apps (``--apps``) of 0.1 to 5 calls a second, record by record as they arrive, a tick a second, a few
incidents open; ``app_buckets_per_s`` counts ticks, in which all judging is done (CPU time), ``all_per_s`` reading the
rollups as well. ``looks_per_s`` is the same judge that looks at every series each time (``together=False``), over the
first part; ``ratio`` is between the two, and ``equal`` compares their alerts. ``core_percent``: what detect needs of
one core.

    python bench/catch_up.py [--busy] [--only live] [--apps 200]     (QUICK=1 for a short form)
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from _report import QUICK, REPO, machine, report, spread

sys.path.insert(0, str(REPO))

from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.snapshot import dump, load
from pipelines.detect.windows import SLOT
from schemas.records import Record
from schemas.rollups import H_KIND
from tests.pipelines.detect.traffic import DAY, HOUR, SECOND, T0, App, Incident, Stream

APPS = 4 if QUICK else 16
DAYS = 1 if QUICK else 14
ROUNDS = 1 if QUICK else 2
TICK = 6 * HOUR
REFERENCE_HOURS = 3
LIVE_APPS = 16
LIVE_S, LIVE_REFERENCE_S = (180, 90) if QUICK else (1800, 300)
LIVE_RATES = (0.1, 0.4, 2.0, 5.0)
BEFORE_PER_S = 270


@dataclass
class Figures:
    """Of one backlog."""

    cpu_s: float = 0.0
    slices_ms: list[float] = field(default_factory=list)
    slices_cpu_ms: list[float] = field(default_factory=list)
    buckets: int = 0
    ids: list[tuple[str, int, str]] = field(default_factory=list)


def _busy(stop: Any) -> None:
    while not stop.is_set():
        sum(i * i for i in range(10_000))


def backlog(span: int) -> Iterator[Record]:
    """Records of ``span`` µs of history, a tick after each ``TICK`` of it. They are made as they are read."""
    apps = tuple(App(f"app-{n:02}", rate=0.05 * (1 + n % 4), users=40, cost=0.01, burst=0.5) for n in range(APPS))
    spells = tuple(Incident(at, at + 600 * SECOND, factor=8) for at in range(T0 - span + 3 * HOUR, T0, DAY))
    stream = Stream(7, apps=apps, partitions=1, incidents=spells)
    for begin in range(T0 - span, T0, TICK):
        *records, tick = stream.records(begin, min(begin + TICK, T0), live=False, batch_s=1800)
        yield from (record for record in records if not _is_tick(record))
        yield tick


def year() -> list[Record]:
    """Ten events, 36 days between two of them; each is read when it happens, and a tick after it."""
    stream, records = Stream(8, apps=(App(rate=1.0),), partitions=1), list[Record]()
    for n in range(10):
        at = T0 - (10 - n) * 36 * DAY
        stream.now = at + SECOND
        records += stream.records(at, at + SECOND, live=True)
    return records


def live(number: int) -> tuple[list[Record], list[Record]]:
    """History of some hours, and then records of ``number`` apps as they arrive, with incidents in three of them."""
    apps = tuple(
        App(f"app-{n:02}", rate=LIVE_RATES[n % 4], users=40 * (1 + n % 3), cost=0.002, burst=0.3) for n in range(number)
    )
    end = T0 + (LIVE_S - 60) * SECOND
    spells = (
        Incident(T0 + 20 * SECOND, end, user="u-7", rate=3.0, context=20.0, app="app-00"),
        Incident(T0 + 40 * SECOND, end, guardrail="pii", share=0.4, action="block", app="app-02"),
        Incident(T0 + 60 * SECOND, end, factor=12.0, app="app-03"),
    )
    stream = Stream(9, apps=apps, partitions=1, incidents=spells)
    hours = 1.5 if number <= LIVE_APPS else 0.75
    past = list(stream.records(T0 - int(hours * HOUR), T0, live=False, batch_s=900))
    return past, list(stream.records(T0, T0 + LIVE_S * SECOND, live=True))


def run_live(judge: Judge, before: bytes, records: list[Record]) -> tuple[Figures, Figures]:
    """Judge from the state ``before`` on; measure rollups and ticks apart."""
    state = load(before)
    rollups, ticks = Figures(), Figures()
    for record in records:
        closed, figures = _closed(state), ticks if _is_tick(record) else rollups
        cpu = time.process_time()
        _, alerts = judge.step(state, record)
        used = time.process_time() - cpu
        figures.cpu_s += used
        figures.slices_cpu_ms.append(1e3 * used)
        figures.buckets += sum((at - closed.get(name, at)) // SLOT for name, at in _closed(state).items())
        figures.ids += [(a.id, a.seq, a.state) for a in alerts]
    return rollups, ticks


def measure_live(number: int) -> dict[str, object]:
    """Figures of a live stage; see the module."""
    past, records = live(number)
    head = records[: next(i for i, r in enumerate(records) if r.kafka_time > T0 + LIVE_REFERENCE_S * SECOND)]
    before = dump(run(Judge(), past)[1])
    (_, full), (_, same) = run_live(Judge(together=False), before, head), run_live(Judge(), before, head)
    rollups, ticks = run_live(Judge(), before, records)
    cpu_s = rollups.cpu_s + ticks.cpu_s
    return {
        "apps": number,
        "app_buckets_per_s": round(ticks.buckets / ticks.cpu_s),
        "all_per_s": round(ticks.buckets / cpu_s),
        "looks_per_s": round(full.buckets / full.cpu_s),
        "ratio": round(same.buckets / same.cpu_s / (full.buckets / full.cpu_s), 1),
        "equal": full.ids == same.ids,
        "core_percent": round(100 * cpu_s / LIVE_S, 2),
        "longest_tick_cpu_ms": round(max(ticks.slices_cpu_ms), 1),
        "alerts": len(ticks.ids),
    }


def _is_tick(record: Record) -> bool:
    return dict(record.headers).get(H_KIND) == b"tick"


def run(judge: Judge, records: Iterable[Record]) -> tuple[Figures, PartitionState]:
    """Judge; measure every slice."""
    found, state = Figures(), PartitionState()
    for record in records:
        slices = judge.slices(state, record)
        while True:
            closed = _closed(state)
            began, cpu = time.perf_counter(), time.process_time()
            alerts = next(slices, None)
            found.slices_ms.append(1e3 * (time.perf_counter() - began))
            used = time.process_time() - cpu
            found.slices_cpu_ms.append(1e3 * used)
            found.cpu_s += used
            found.buckets += sum((at - closed.get(name, at)) // SLOT for name, at in _closed(state).items())
            if alerts is None:
                break
            found.ids += [(a.id, a.seq, a.state) for a in alerts]
    return found, state


def _closed(state: PartitionState) -> dict[str, int]:
    return {name: app.windows.closed for name, app in state.apps.items()}


def _rounds() -> Iterator[dict[str, float]]:
    for n in range(ROUNDS):
        one, _ = run(Judge(together=False), backlog(REFERENCE_HOURS * HOUR))
        same, _ = run(Judge(), backlog(REFERENCE_HOURS * HOUR))
        many, state = run(Judge(), backlog(DAYS * DAY))
        gap, _ = run(Judge(), year())
        began = time.perf_counter()
        size = len(dump(state))
        dump_ms = 1e3 * (time.perf_counter() - began)
        load(dump(state))
        yield {
            "app_buckets_per_s": many.buckets / many.cpu_s,
            "one_by_one_per_s": one.buckets / one.cpu_s,
            "ratio": many.buckets / many.cpu_s / (one.buckets / one.cpu_s),
            "alerts_equal": one.ids == same.ids,
            "cpu_s_per_app_day": many.cpu_s / (APPS * DAYS),
            "longest_ms": max(many.slices_ms),
            "longest_cpu_ms": max(many.slices_cpu_ms),
            "year_cpu_s": gap.cpu_s,
            "year_longest_ms": max(gap.slices_ms),
            "checkpoint_ms": dump_ms,
            "checkpoint_kb": size / 1024,
            "slices": len(many.slices_ms),
            "alerts": len(many.ids),
        }
        sys.stdout.write(f"round {n + 1}/{ROUNDS}: {many.buckets} app-buckets in {many.cpu_s:.1f} CPU-s\n")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", action="store_true", help="keep every core busy with other processes")
    parser.add_argument("--apps", type=int, default=LIVE_APPS, help="of the live part")
    parser.add_argument("--only", choices=["live"], help="leave the backlog out")
    options = parser.parse_args()
    busy = options.busy
    print(machine("numpy", "pyarrow"), flush=True)
    stop = multiprocessing.Event()
    others = [multiprocessing.Process(target=_busy, args=(stop,)) for _ in range(multiprocessing.cpu_count() * busy)]
    for other in others:
        other.start()
    try:
        alive = measure_live(options.apps)
        rounds = [] if options.only else list(_rounds())
    finally:
        stop.set()
        for other in others:
            other.join()
    if not rounds:
        report({"live": alive, "busy": busy}, "numpy", "pyarrow")
        return
    middle = {name: spread([r[name] for r in rounds], 3)[1] for name in rounds[0]}
    worst = {name: round(max(r[name] for r in rounds), 1) for name in rounds[0] if "longest" in name}
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report(
        {
            **middle,
            **worst,
            "live": alive,
            "alerts_equal": all(r["alerts_equal"] for r in rounds),
            "before_per_s": BEFORE_PER_S,
            "rss_mb": round(rss),
            "apps": APPS,
            "days": DAYS,
            "busy": busy,
            "spread": spread([r["app_buckets_per_s"] for r in rounds]),
        },
        "numpy",
        "pyarrow",
    )


if __name__ == "__main__":
    main()
