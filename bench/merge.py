"""A hundred thousand files of one row each, merged to fewer than two hundred within the memory limit (row 68).

A day of landing once a second, with nobody merging. The files are written in the shape in which land writes them, and
given to the catalog with their move of the ledger, a thousand a transaction; then ``tailrace job run
maintain`` runs as it is, its memory watched from outside, while land commits twice a second. The last line is {"files",
"files_after", "seconds", "peak_rss_mb", "longest_slice_s", "commit_p99_s", "verify"}. QUICK=1: 5,000 files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
from _report import QUICK, REPO, machine, report

from schemas.records import Move
from schemas.tables import RAW_CALLS
from warehouse import ledger
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.verify.verify import verify

FILES = 5_000 if QUICK else 100_000
EACH = 1_000
EVENTS = "llm.events"


def now() -> int:
    return time.time_ns() // 1000


def row(offset: int, partition: int, at: datetime) -> pa.Table:
    fields = {"id": str(uuid.UUID(int=(partition << 64) + offset)), "ts": at, "app": f"app{offset % 5}", "model": "m"}
    place = {
        "_epoch": 0,
        "_partition": partition,
        "_offset": offset,
        "_kafka_time": at,
        "day": at.date(),
        "_dup": False,
    }
    return pa.Table.from_pylist([{**fields, "output_text": "text " * 20, **place}], schema=RAW_CALLS.schema)


def fill(config: LakeConfig) -> None:
    """Put FILES files of one row into the lake."""
    at = datetime.now(UTC)
    folder = Path(config.data_path) / "main/raw_calls" / f"day={at.date()}"
    with Lake.open(config, now=now) as lake:
        lake.ensure_partitions(EVENTS, "bench", {0: 0, 1: 0})
        lake.append({"raw_calls": row(0, 1, at)}, [Move(EVENTS, 1, 0, 1)])  # makes the folder
        for start in range(0, FILES, EACH):
            write(folder, pa.concat_tables(row(offset, 0, at) for offset in range(start, start + EACH)), start)

            def add(connection: Any, start: int = start) -> None:
                assert ledger.move(connection, [Move(EVENTS, 0, start, start + EACH)], {EVENTS: 0})
                call = "CALL ducklake_add_data_files('lake', 'raw_calls', $1, hive_partitioning => true)"
                connection.execute(call, [str(folder / f"b{start:06d}-*.parquet")]).fetchall()

            lake.transact(add)
            print(f"{start + EACH}/{FILES} files", flush=True)


def write(folder: Path, rows: pa.Table, start: int) -> None:
    """Write each row as a file of its own, with the types that the lake has; the day is in the folder's name."""
    casts = ", ".join(f'"{c.name}"::{c.duckdb} AS "{c.name}"' for c in RAW_CALLS.columns if c.name != "day")
    with tempfile.TemporaryDirectory(dir=folder.parent) as parts, duckdb.connect() as writer:
        writer.register("rows", rows)
        how = "FORMAT parquet, COMPRESSION zstd, PARTITION_BY (part)"
        writer.execute(f"COPY (SELECT {casts}, _offset AS part FROM rows) TO '{parts}' ({how}, OVERWRITE_OR_IGNORE)")
        for n, file in enumerate(sorted(Path(parts).rglob("*.parquet"))):
            file.rename(folder / f"b{start:06d}-{n:06d}.parquet")


def land(config: LakeConfig, done: threading.Event, took: list[float]) -> None:
    """Land a row twice a second beside it."""
    with Lake.open(config, now=now) as lake:
        offset = lake.ledger()[EVENTS, 1]
        while not done.wait(0.5):
            table = row(offset, 1, datetime.now(UTC))
            began = time.perf_counter()
            lake.append({"raw_calls": table}, [Move(EVENTS, 1, offset, offset + 1)])
            took.append(time.perf_counter() - began)
            offset += 1


def maintain(config: LakeConfig) -> tuple[dict[str, Any], float, float]:
    """Run the job; return its report, how long it took and its peak of memory in MB."""
    environment = {
        **os.environ,
        "TAILRACE_HOME": str(Path(config.catalog).parent),
        "TAILRACE_LAKE__CATALOG": config.catalog,
        "TAILRACE_LAKE__DATA_PATH": config.data_path,
    }
    command = [sys.executable, "-m", "tailrace", "job", "run", "maintain", "--json"]
    began = time.monotonic()
    with subprocess.Popen(command, cwd=REPO, env=environment, stdout=subprocess.PIPE, text=True) as process:
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _rss_mb(process.pid))
            time.sleep(0.2)
        assert process.stdout is not None
        said = json.loads(process.stdout.read())
    return said, time.monotonic() - began, peak


def _rss_mb(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss / 2**20)
    except psutil.Error:
        return 0.0


def main() -> None:
    print(machine("duckdb", "duckdb-extension-ducklake", "pyarrow"), flush=True)
    with tempfile.TemporaryDirectory(prefix="tailrace-merge-") as folder:
        config = LakeConfig(f"{folder}/catalog.sqlite", f"{folder}/data")
        fill(config)
        done, took = threading.Event(), list[float]()
        landing = threading.Thread(target=land, args=(config, done, took))
        landing.start()
        runs = 0
        while True:  # what does not fit into one run is the next one's
            said, seconds, peak = maintain(config)
            runs += 1
            print(f"run {runs}: {said['files']} files left, {seconds:.0f} s, {peak:.0f} MB", flush=True)
            if said["files"] < 200 or runs == 5:
                break
        done.set()
        landing.join()
        checked = verify(config)
    figures = {
        "files": FILES,
        "files_after": said["files"],
        "runs": runs,
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(peak, 1),
        "longest_slice_s": said["longest_slice_s"],
        "commits": len(took),
        "commit_p99_s": round(sorted(took)[int(len(took) * 0.99)], 3) if took else None,
        "verify": checked.ok,
    }
    report(figures, "duckdb", "duckdb-extension-ducklake", "pyarrow")


if __name__ == "__main__":
    main()
