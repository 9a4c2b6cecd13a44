"""How long a back-test of ten million landed calls takes on two cores, drift left out.

Fourteen days of 13 apps with 0.63 calls a second each, the pace of a public trace, are rolled up by meter's function
and landed as land does, in six partitions and in batches of an hour with a tick after each, as an import would be.
``run_detectors_again`` is what `tailrace backtest` calls; its time holds the reading of the lake. ``one_process_s``
is the same by one process (with QUICK=1 only). ``live_calls_per_s``: what was landed while it happened has a tick a
second, and each is a look at open buckets; half an hour of it is judged by one process.

    python bench/backtest.py     (QUICK=1: one day)
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from _report import QUICK, REPO, machine, report

sys.path.insert(0, str(REPO))

from schemas.alerts import Alert
from schemas.records import Record
from schemas.rollups import H_KIND
from schemas.topics import ROLLUPS
from tailrace.job_runs.run_detectors_again import run_detectors_again
from tests.pipelines.detect.landing import land
from tests.pipelines.detect.traffic import DAY, HOUR, SECOND, T0, App, Incident, Stream
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

DAYS = 1 if QUICK else 14
APPS, RATE, PARTITIONS = 13, 0.63, 6
LIVE_S = 300 if QUICK else 1800
AIM_S = 300.0


class Landing:
    """Lands the records of one stream per partition."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.calls = lake, 0
        self.offsets = dict.fromkeys(range(PARTITIONS), 0)

    def land(self, partition: int, records: list[Record]) -> None:
        """Append the records behind what the partition has."""
        self.offsets[partition] = land(self.lake, records, partition=partition, first=self.offsets[partition])


def streams() -> list[Stream]:
    """One for each partition, with its share of the apps and an incident a day."""
    found = []
    for partition in range(PARTITIONS):
        numbers = range(partition, APPS, PARTITIONS)
        apps = tuple(App(f"app-{n:02}", rate=RATE, users=200, cost=0.01, burst=0.5) for n in numbers)
        spells = tuple(Incident(at, at + HOUR // 4, factor=6) for at in range(T0 - (DAYS - 1) * DAY, T0, DAY))
        found.append(Stream(20 + partition, apps=apps, incidents=spells, partitions=1))
    return found


def history(landing: Landing, sources: list[Stream]) -> None:
    """Land ``DAYS`` days, hour by hour."""
    for begin in range(T0 - DAYS * DAY, T0, HOUR):
        for partition, source in enumerate(sources):
            records = list(source.records(begin, begin + HOUR, live=False, batch_s=1800))
            landing.land(partition, [r for r in records[:-1] if dict(r.headers).get(H_KIND) != b"tick"] + [records[-1]])
    landing.calls = sum(sum(source.offsets.values()) for source in sources)


def timed(config: LakeConfig, begin: int, until: int, processes: int) -> tuple[float, list[Alert]]:
    """(seconds, alerts) of a back-test."""
    with ReadOnlyLake.open(config) as lake:
        began = time.perf_counter()
        alerts = run_detectors_again(lake, {}, begin, until, processes=processes)
        return time.perf_counter() - began, alerts


def main() -> None:
    print(machine("numpy", "pyarrow", "duckdb"), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        config = LakeConfig(str(Path(folder) / "catalog.sqlite"), str(Path(folder) / "data"))
        with Lake.open(config, now=lambda: T0) as lake:
            lake.ensure_partitions(ROLLUPS, "one", dict.fromkeys(range(PARTITIONS), 0))
            landing, sources = Landing(lake), streams()
            history(landing, sources)
            print(f"{landing.calls} calls landed", flush=True)
            two, alerts = timed(config, 0, 2 * T0, 2)
            one, same = timed(config, 0, 2 * T0, 1) if QUICK else (0.0, alerts)
            before = sum(sources[0].offsets.values())
            live = list(sources[0].records(T0 + SECOND, T0 + LIVE_S * SECOND, live=True))
            landing.land(0, live)
            looked, _ = timed(config, T0 + SECOND, 2 * T0, 1)
            lived = sum(sources[0].offsets.values()) - before
    report(
        {
            "calls": landing.calls,
            "seconds": round(two, 1),
            "calls_per_s": round(landing.calls / two),
            "ten_million_s": round(10_000_000 * two / landing.calls),
            "one_process_s": round(one, 1),
            "same_alerts": [a.to_json() for a in same] == [a.to_json() for a in alerts],
            "alerts": len(alerts),
            "live_calls_per_s": round(lived / looked),
            "live_app_s_per_s": round(LIVE_S * len(sources[0].apps) / looked),
            "met": landing.calls >= 9_000_000 and two <= AIM_S,
        },
        "numpy",
        "pyarrow",
        "duckdb",
    )


if __name__ == "__main__":
    main()
