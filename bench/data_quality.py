"""The hourly data quality job over an hour of a million calls: time, processor, memory, against a limit of 2 GiB.

Each round runs the job in a process of its own, as the scheduler does, beside one that only imports Great Expectations.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from datetime import timedelta

import pyarrow as pa
from _report import QUICK, REPO, report, spread

from schemas.records import Move
from schemas.tables import RAW_CALLS
from tests.jobs.data_quality import lake as made
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

ROWS = 100_000 if QUICK else 1_000_000
STEP = 50_000
ROUNDS = 1 if QUICK else 3
AT = made.WELL + timedelta(minutes=30)
_JOB = """
import json, resource, sys, time
from pathlib import Path
began = time.monotonic()
from jobs.data_quality import data_quality
from tests.jobs.data_quality.lake import WELL_HOUR
from warehouse.storage.connect import LakeConfig
folder = Path(sys.argv[1])
run = data_quality(LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data")), WELL_HOUR, site=folder / "docs")
used = resource.getrusage(resource.RUSAGE_SELF)
rss = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
figures = {"seconds": time.monotonic() - began, "cpu_s": used.ru_utime + used.ru_stime, "rss_mb": rss}
print(json.dumps({**figures, "failed": run.failed, "judged": max(each.judged for each in run.outcomes)}))
"""
_IMPORT = """
import json, resource, warnings
warnings.simplefilter("ignore")
import great_expectations
used = resource.getrusage(resource.RUSAGE_SELF)
rss = int(next(l for l in open("/proc/self/status") if l.startswith("VmHWM")).split()[1]) / 1024
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "rss_mb": rss}))
"""


def land(config: LakeConfig) -> None:
    one = pa.Table.from_pylist([made.call(number, AT) for number in range(STEP)], schema=RAW_CALLS.schema)
    with Lake.open(config, now=lambda: made.micros(AT)) as lake:
        lake.ensure_partitions(made.EVENTS, "topic-1", {0: 0})
        for start in range(0, ROWS, STEP):
            numbers = range(start, start + STEP)
            columns = {"id": pa.array(map(made.uid, numbers)), "_offset": pa.array(numbers, pa.int64())}
            rows = one
            for name, column in columns.items():
                rows = rows.set_column(rows.schema.get_field_index(name), name, column)
            lake.append({RAW_CALLS.name: rows}, [Move(made.EVENTS, 0, start, start + STEP)])


def run(program: str, *words: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, "-c", program, *words], cwd=REPO, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        land(LakeConfig(f"{folder}/catalog.sqlite", f"{folder}/data"))
        rounds = [(run(_IMPORT), run(_JOB, folder)) for _ in range(ROUNDS)]
    for imported, job in rounds:
        sys.stdout.write(f"import {imported}\njob    {job}\n")
    jobs = [job for _, job in rounds]
    report(
        {
            "calls": ROWS,
            "judged": jobs[0]["judged"],
            "seconds": spread([job["seconds"] for job in jobs], 1)[1],
            "cpu_s": spread([job["cpu_s"] for job in jobs], 1)[1],
            "rss_mb": max(round(job["rss_mb"]) for job in jobs),
            "limit_mb": 2048,
            "import_cpu_s": spread([imported["cpu_s"] for imported, _ in rounds], 1)[1],
            "import_rss_mb": max(round(imported["rss_mb"]) for imported, _ in rounds),
            "spread": spread([job["seconds"] for job in jobs], 1),
        },
        "great-expectations",
        "pandas",
        "duckdb",
    )


if __name__ == "__main__":
    main()
