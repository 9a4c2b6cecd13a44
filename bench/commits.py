"""A landing commit after a million of them, next to a fresh lake's, and while maintain runs.

A move of the ledger leaves a dead row, a commit a snapshot. Waiting for a million would take a day, so lakes are aged:
their SQLite catalogs get the rows that so many commits leave, written by a process that never opens the lake.
after: what stays where land replaces its ledger and small files are merged four times an hour (45 minutes of snapshots
at one commit a second, the ledgers replaced meanwhile, a living one about to be replaced; in the day's folder the names
of a whole day of files, which stay for two days after they were merged). On top come real commits: fresh and aged lakes
take turns, every round in a new process; a fresh lake is new each round.
The long form also shows what is prevented. unmaintained: a million snapshots and ten replaced ledgers. unreplaced: a
million dead rows in the living ledger.
Run: ``make bench-commits``; ``QUICK=1`` for the short form. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from _report import QUICK, REPO, machine, report

DISTRIBUTIONS = ("duckdb", "duckdb-extension-ducklake", "pyarrow")
MILLION = 1_000_000
KEPT_SNAPSHOTS = 2_700
LEDGER_ROWS = 2_500
DAY_OF_FILES = 86_400
PARTITIONS = 4
ROWS = 100
WARM_UP = 5
COMPACT_EVERY = 900
"""Commits: a quarter of an hour at one a second; the snapshots of twice as many stay."""
EVENTS = "llm.events"


def now() -> int:
    return time.time_ns() // 1000


def config(home: Path) -> Any:
    from warehouse.storage.connect import LakeConfig

    return LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))


def land(home: Path, commits: int, *, pause_s: float, replace_after: int) -> list[float]:
    """Land ``commits`` batches on the lake of ``home``; return how long each took, the first ones left out."""
    from schemas.records import Move
    from schemas.tables import RAW_CALLS
    from warehouse.lake import Lake

    took = []
    with Lake.open(config(home), now=now) as lake:
        lake.replace_ledger_after = replace_after
        lake.ensure_partitions(EVENTS, "bench", dict.fromkeys(range(PARTITIONS), 0))
        for n in range(-WARM_UP, commits):
            stands = lake.ledger()
            moves = [
                Move(EVENTS, p, stands[EVENTS, p], stands[EVENTS, p] + ROWS // PARTITIONS) for p in range(PARTITIONS)
            ]
            at = datetime.now(UTC)
            rows = [
                {
                    "id": str(uuid.uuid4()),
                    "ts": at,
                    "app": f"app{o % 5}",
                    "model": "gpt-4o",
                    "output_text": "text " * 20,
                }
                | {"_epoch": 0, "_partition": m.partition, "_offset": o, "_kafka_time": at, "day": at.date()}
                for m in moves
                for o in range(m.start, m.end)
            ]
            table = pa.Table.from_pylist(rows, schema=RAW_CALLS.schema)
            began = time.perf_counter()
            lake.append({"raw_calls": table}, moves)
            if n >= 0:
                took.append(time.perf_counter() - began)
            time.sleep(pause_s)
    return took


def replace_ledgers(home: Path, times: int) -> None:
    """Leave so many replaced ledgers behind, as DuckLake leaves them."""
    from warehouse.lake import Lake

    with Lake.open(config(home), now=now) as lake:
        for _ in range(times):
            lake.replace_ledger()


def maintain(home: Path, *, until: Path | None, snapshots_h: float) -> dict[str, Any]:
    """Run the job compact once, or maintain again and again until the file ``until`` is there."""
    from jobs.maintain import MaintainSettings
    from jobs.maintain import maintain as job

    settings = MaintainSettings(clean=until is not None)
    if snapshots_h:
        object.__setattr__(settings, "snapshots_h", snapshots_h)  # less than anybody may set: commits are quicker here
    said = json.loads(job(config(home), now=now, settings=settings).to_json())
    while until and not until.exists():
        said = json.loads(job(config(home), now=now, settings=settings).to_json())
    return dict(said)


def age(home: Path, *, snapshots: int, dead: int) -> None:
    """Add ``snapshots`` up to now, and dead rows to each ledger: ``dead`` to the living one. SQLite alone."""
    with sqlite3.connect(home / "catalog.sqlite") as catalog:
        (newest,) = catalog.execute("SELECT max(snapshot_id) FROM ducklake_snapshot").fetchone()
        start = datetime.now(UTC) - timedelta(seconds=snapshots)
        times = ((newest + 1 + i, f"{start + timedelta(seconds=i):%Y-%m-%d %H:%M:%S.%f}+00") for i in range(snapshots))
        _copies(catalog, "ducklake_snapshot", "snapshot_id", newest, ("snapshot_id", "snapshot_time"), times)
        ids = ((newest + 1 + i,) for i in range(snapshots))
        _copies(catalog, "ducklake_snapshot_changes", "snapshot_id", newest, ("snapshot_id",), ids)
        living = catalog.execute(
            "SELECT i.table_name, t.end_snapshot FROM ducklake_inlined_data_tables AS i JOIN ducklake_table AS t "
            "USING (table_id) WHERE t.table_name = 'ledger'"
        ).fetchall()
        for name, end in living:
            rows = dead if end is None else LEDGER_ROWS
            (row,) = catalog.execute(f'SELECT min(rowid) FROM "{name}"').fetchone()
            spans = ((newest + i, newest + i + 1) for i in range(rows))
            _copies(catalog, name, "rowid", row, ("begin_snapshot", "end_snapshot"), spans)
    catalog.close()


def fill_folder(home: Path) -> None:
    """Put the names of a day of merged files into the folder of today, empty: no look at the catalog names them."""
    folder = home / "data/main/raw_calls" / f"day={datetime.now(UTC).date()}"
    folder.mkdir(parents=True, exist_ok=True)
    first = time.time_ns() // 1_000_000 - DAY_OF_FILES * 1000
    for i in range(DAY_OF_FILES):
        stamp = f"{first + i * 1000:012x}"
        (folder / f"ducklake-{stamp[:8]}-{stamp[8:]}-7000-8000-{i:012x}.parquet").touch()


def _copies(catalog: Any, table: str, key: str, of: int, changed: tuple[str, ...], values: Any) -> None:
    columns = [row[1] for row in catalog.execute(f'PRAGMA table_info("{table}")')]
    wanted = ", ".join("?" if name in changed else f'"{name}"' for name in columns)
    assert [name for name in columns if name in changed] == list(changed), table
    catalog.executemany(f'INSERT INTO "{table}" SELECT {wanted} FROM "{table}" WHERE {key} = {of}', values)


def run(arm: str, home: Path, *more: str) -> Any:
    """Run one arm in a process of its own; return what it printed."""
    return finish(start(arm, home, *more))


def start(arm: str, home: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--arm", arm, "--home", str(home), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPO)


def finish(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(err[-2000:])
    return json.loads(out.splitlines()[-1])


def p99(values: list[float]) -> float:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * 0.99))], 4)


def aged(folder: Path, template: Path, *, ledgers: int, snapshots: int, dead: int) -> Path:
    shutil.copytree(template, folder)
    run("replace", folder, "--commits", str(ledgers))
    run("age", folder, "--snapshots", str(snapshots), "--dead", str(dead))
    fill_folder(folder)
    return folder


def compare(folder: Path, rounds: int, each: int, *, alone: bool) -> dict[str, Any]:
    template = folder / "template"
    template.mkdir()
    run("land", template, "--commits", "1")
    replaced = KEPT_SNAPSHOTS * PARTITIONS // LEDGER_ROWS + 1
    almost = LEDGER_ROWS - (WARM_UP + 1) * PARTITIONS - each // 2 * PARTITIONS  # replaced in the middle of a round
    after = aged(folder / "after", template, ledgers=replaced, snapshots=KEPT_SNAPSHOTS, dead=almost)
    others = {}
    if not (QUICK or alone):
        others["unmaintained"] = aged(folder / "unmaintained", template, ledgers=10, snapshots=MILLION, dead=almost)
        others["unreplaced"] = aged(folder / "unreplaced", template, ledgers=0, snapshots=0, dead=MILLION)
    took: dict[str, list[float]] = {"fresh": [], "after": [], "unmaintained": [], "unreplaced": [], "maintain": []}
    begun: list[float] = []
    for n in range(rounds):
        begun.append(time.time())
        fresh = folder / "fresh"
        shutil.copytree(template, fresh)
        # a fresh lake must stay one: it gets no more than a hundred or so
        arms = [("fresh", fresh, max(100, each // 4)), ("after", after, each)]
        for name, home, commits in arms if n % 2 else arms[::-1]:
            took[name] += run("land", home, "--commits", str(commits))
        shutil.rmtree(fresh)
        if (n + 1) % max(1, COMPACT_EVERY // each) == 0:
            # land commits once a second: what stays for half an hour stays for as many commits here
            kept = begun[-2 * COMPACT_EVERY // each :][0]
            run("maintain", after, "--snapshots-h", str((time.time() - kept) / 3600))
        for name, home in others.items() if n < 5 else ():
            took[name] += run("land", home, "--commits", "10", *(["--keep-ledger"] if name == "unreplaced" else []))
        print(f"round {n + 1}/{rounds}: " + ", ".join(f"{k} {p99(v)} s" for k, v in took.items() if v), flush=True)
    done = folder / "done"
    worker = start("maintain", after, "--until", str(done))
    try:
        took["maintain"] = run("land", after, "--commits", str(max(50, each)), "--pause", "0.2")
    finally:
        done.touch()
    kept = finish(worker)
    return {
        "commits": MILLION + len(took["after"]) + len(took["maintain"]),
        "real_commits": len(took["after"]) + len(took["maintain"]),
        "p99_fresh_s": p99(took["fresh"]),
        "p99_after_s": p99(took["after"]),
        "ratio": round(p99(took["after"]) / p99(took["fresh"]), 2),
        "p50_fresh_s": round(statistics.median(took["fresh"]), 4),
        "p50_after_s": round(statistics.median(took["after"]), 4),
        **{f"p99_{name}_s": p99(took[name]) for name in others},
        "maintain_p50_s": round(statistics.median(took["maintain"]), 4),
        "maintain_p99_s": p99(took["maintain"]),
        "maintain_longest_slice_s": kept["longest_slice_s"],
        "maintain_took_s": kept["took_s"],
        "files": kept["files"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arm", choices=("land", "replace", "age", "maintain"))
    parser.add_argument("--home", type=Path)
    parser.add_argument("--commits", type=int, default=100 if QUICK else 500, help="in each round")
    parser.add_argument("--rounds", type=int, default=3 if QUICK else 40)
    parser.add_argument("--snapshots", type=int, default=0)
    parser.add_argument("--dead", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--keep-ledger", action="store_true")
    parser.add_argument("--until", type=Path)
    parser.add_argument("--snapshots-h", type=float, default=0.0)
    parser.add_argument("--alone", action="store_true", help="without the arms that show what is prevented")
    said = parser.parse_args()
    if said.arm == "land":
        after = 10**12 if said.keep_ledger else LEDGER_ROWS
        print(json.dumps(land(said.home, said.commits, pause_s=said.pause, replace_after=after)))
    elif said.arm == "replace":
        replace_ledgers(said.home, said.commits)
        print("null")
    elif said.arm == "age":
        age(said.home, snapshots=said.snapshots, dead=said.dead)
        print("null")
    elif said.arm == "maintain":
        print(json.dumps(maintain(said.home, until=said.until, snapshots_h=said.snapshots_h)))
    else:
        print(machine(*DISTRIBUTIONS), flush=True)
        with tempfile.TemporaryDirectory(prefix="tailrace-commits-") as folder:
            report(compare(Path(folder), said.rounds, said.commits, alone=said.alone), *DISTRIBUTIONS)


if __name__ == "__main__":
    main()
