"""What the stream detectors cost: series judged a second of one core, and memory with a million users.

``live``: apps of 60 users (``live_many_users``: 2,000); history of an hour and a half, then records as they arrive, a
tick a second; a few incidents are open. ``backlog``: a day that is read faster than it was lived. A series-second is
one series of an app for one second of event time, whether it called or not; ``series_seconds_per_s`` counts them for
each second of processor time, reading the rollups included (ticks alone: ``ticks_only``). ``memory``: one app of 300
calls a second whose users become a million; its records are judged in a process of its own, whose highest resident
memory is ``rss_mb`` (``before_mb``: after the imports). Aims: 200,000 series-seconds; 500 MB.

    python bench/detect_cost.py     (QUICK=1: fewer apps and users)
"""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from _report import QUICK, REPO, machine, report

sys.path.insert(0, str(REPO))

from pipelines.detect.judge import Judge, PartitionState
from pipelines.detect.windows import SLOT
from schemas.records import Record
from schemas.rollups import H_KIND
from tests.pipelines.detect.traffic import DAY, HOUR, SECOND, T0, App, Incident, Stream

APPS = 4 if QUICK else 16
LIVE_S = 120 if QUICK else 900
USERS = 100_000 if QUICK else 1_000_000
FEW, MANY = 60, 2_000
"""Users of an app that is judged live: each may become a series."""
RATES = (0.5, 2.0, 10.0, 50.0)
AIM_PER_S, AIM_MB = 200_000, 500


@dataclass
class Cost:
    """Of some records."""

    series_seconds: float = 0.0
    reading_s: float = 0.0
    ticks_s: float = 0.0

    def figures(self) -> dict[str, float]:
        """What is reported."""
        return {
            "series_seconds_per_s": round(self.series_seconds / (self.reading_s + self.ticks_s)),
            "ticks_only": round(self.series_seconds / self.ticks_s),
            "cpu_s": round(self.reading_s + self.ticks_s, 2),
        }


def judge(state: PartitionState, records: Iterable[Record]) -> Cost:
    """Judge ``records`` from ``state`` on."""
    judge, cost = Judge(), Cost()
    for record in records:
        closed = {name: app.windows.closed for name, app in state.apps.items()}
        cpu = time.process_time()
        judge.step(state, record)
        used = time.process_time() - cpu
        if dict(record.headers).get(H_KIND) == b"tick":
            cost.ticks_s += used
        else:
            cost.reading_s += used
        for name, app in state.apps.items():
            slots = (app.windows.closed - closed.get(name, app.windows.closed)) // SLOT
            cost.series_seconds += slots * SLOT / SECOND * len(app.windows.index)
    return cost


def live(users: int) -> dict[str, float]:
    """Figures of apps of 0.5 to 50 calls a second."""
    apps = tuple(App(f"app-{n:02}", rate=RATES[n % 4], users=users, cost=0.002, burst=0.3) for n in range(APPS))
    spells = (
        Incident(T0 + 20 * SECOND, T0 + DAY, user="u-7", rate=3.0, context=20.0, app="app-00"),
        Incident(T0 + 40 * SECOND, T0 + DAY, guardrail="pii", share=0.4, action="block", app="app-02"),
    )
    stream, state = Stream(9, apps=apps, partitions=1, incidents=spells), PartitionState()
    judge(state, stream.records(T0 - 3 * HOUR // 2, T0, live=False, batch_s=900))
    cost = judge(state, stream.records(T0, T0 + LIVE_S * SECOND, live=True))
    return cost.figures() | {"apps": APPS, "series": sum(len(app.windows.index) for app in state.apps.values())}


def backlog() -> Cost:
    """A day of apps with few calls; a tick after each hour of it."""
    apps = tuple(App(f"app-{n:02}", rate=0.1 * (1 + n % 4), users=60, cost=0.01, burst=0.5) for n in range(APPS))
    stream = Stream(7, apps=apps, partitions=1)
    return judge(PartitionState(), stream.records(T0 - DAY, T0, live=False, batch_s=3600))


def crowd(file: Path) -> int:
    """Write the records of an app until its users are USERS; return how many they are."""
    stream, seen = Stream(11, apps=(App(rate=300.0, users=4 * USERS, cost=0.002),), partitions=1), set[str]()
    made, at = stream._table, T0

    def counted(*arguments: object) -> object:
        table = made(*arguments)  # type: ignore[arg-type]
        seen.update(table["user"].to_pylist())
        return table

    stream._table = counted  # type: ignore[method-assign, assignment]
    with file.open("wb") as out:
        while len(seen) < USERS:
            for record in stream.records(at, at + 10 * SECOND, live=True):
                pickle.dump(record, out)
            at += 10 * SECOND
    return len(seen)


def read(file: Path) -> Iterator[Record]:
    """Records of ``crowd``."""
    with file.open("rb") as source:
        while True:
            try:
                yield pickle.load(source)
            except EOFError:
                return


def child(file: Path) -> None:
    """Judge the records of a file; print (MB after the imports, highest MB, series, CPU seconds)."""
    before, state = _mb(), PartitionState()
    cost = judge(state, read(file))
    series = sum(len(app.windows.index) for app in state.apps.values())
    print(round(before), round(_mb()), series, round(cost.reading_s + cost.ticks_s, 1))


def _mb() -> float:
    """Highest resident memory since exec; ``getrusage`` would count that of the parent before it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def memory() -> dict[str, float]:
    """Figures of a million users."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "records"
        users = crowd(file)
        print(f"{users} users, {file.stat().st_size / 1e6:.0f} MB of records", flush=True)
        command = [sys.executable, __file__, "--child", str(file)]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    before, most, series, cpu_s = map(float, found)
    return {"users": users, "before_mb": before, "rss_mb": most, "series": series, "cpu_s": cpu_s}


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]))
        return
    print(machine("numpy", "pyarrow"), flush=True)
    now = {users: live(users) for users in (FEW, MANY)}
    print(f"live: {now}", flush=True)
    past = backlog()
    print(f"backlog: {past.figures()}", flush=True)
    crowded = memory()
    report(
        {
            "live": now[FEW],
            "live_many_users": now[MANY],
            "backlog": past.figures(),
            "memory": crowded,
            "met": {
                "few_series": now[FEW]["series_seconds_per_s"] >= AIM_PER_S,
                "many_series": now[MANY]["series_seconds_per_s"] >= AIM_PER_S,
                "backlog": past.figures()["series_seconds_per_s"] >= AIM_PER_S,
                "memory": crowded["rss_mb"] <= AIM_MB,
            },
        },
        "numpy",
        "pyarrow",
    )


if __name__ == "__main__":
    main()
