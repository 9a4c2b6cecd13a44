"""Which files a transaction wrote, under a storm of renames: our reading of inotify against watchdog's.

DuckLake does not list the files that an open transaction wrote; they must be known, all of them, before the commit.
Several threads rename files into many folders, half of them made meanwhile. Then both are asked once, as a commit
asks. Counted: renamed files that were not reported, and the time that passed until all were (watchdog), or until the
answer was there (ours, which reads what the kernel has queued at that moment).

``QUICK=1``: a twentieth of the renames.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from _report import QUICK, machine, report
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from warehouse.storage.written_files import InotifyFiles

RENAMES = 5_000 if QUICK else 100_000
FOLDERS = 200
THREADS = 4
ROUNDS = 1 if QUICK else 3
GIVE_UP_S = 60.0
FEW = 10
"""Files of a quiet commit."""


class Reported(FileSystemEventHandler):
    """The paths that watchdog reported."""

    def __init__(self) -> None:
        self.paths: set[str] = set()

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Note both ends of a rename."""
        self.paths |= {os.fsdecode(event.src_path), os.fsdecode(event.dest_path)}


def storm(root: Path, names: list[str], aside: Path) -> float:
    """Rename files from outside into folders of ``root``, half of them made on the way; return how long it took."""
    for name in names:
        (aside / Path(name).name).touch()

    def move(mine: list[str]) -> None:
        for name in mine:
            target = root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (aside / target.name).rename(target)

    threads = [threading.Thread(target=move, args=(names[i::THREADS],)) for i in range(THREADS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def ours(root: Path, names: list[str], aside: Path) -> dict[str, Any]:
    """Ask `InotifyFiles` after the storm."""
    watched = InotifyFiles(str(root))
    watched.begin()
    took = storm(root, names, aside)
    began = time.perf_counter()
    found = {str(path) for path in watched.files()}
    answered = time.perf_counter() - began
    watched.close()
    lost = sum(str(root / name) not in found for name in names)
    return {"storm_s": round(took, 2), "lost": lost, "answer_s": round(answered, 3)}


def watchdog(root: Path, names: list[str], aside: Path) -> dict[str, Any]:
    """Wait until watchdog has reported all, or has reported nothing more for a while."""
    reported, observer = Reported(), Observer()
    observer.schedule(reported, str(root), recursive=True)
    observer.start()
    time.sleep(1.0)  # its watches are made by a thread
    took = storm(root, names, aside)
    began = last = time.perf_counter()
    wanted, known = {str(root / name) for name in names}, -1
    while wanted - reported.paths and time.perf_counter() - last < GIVE_UP_S / 4:
        if len(reported.paths) != known:
            known, last = len(reported.paths), time.perf_counter()
        time.sleep(0.01)
    answered = (last if wanted - reported.paths else time.perf_counter()) - began
    observer.stop()
    observer.join()
    return {"storm_s": round(took, 2), "lost": len(wanted - reported.paths), "answer_s": round(answered, 3)}


def main() -> None:
    """Run both, each on fresh folders."""
    print(machine("watchdog"), flush=True)
    found: dict[str, Any] = {"renames": RENAMES, "folders": FOLDERS, "queue": _queue()}
    for name, run in (("ours", ours), ("watchdog", watchdog)):
        for size, rounds in ((RENAMES, ROUNDS), (FEW, ROUNDS)):
            results = []
            for _ in range(rounds):
                with tempfile.TemporaryDirectory(prefix="tailrace-watching-") as folder:
                    root, aside = Path(folder) / "data", Path(folder) / "aside"
                    aside.mkdir()
                    for i in range(FOLDERS // 2):
                        (root / f"table{i % 10}/day={i}").mkdir(parents=True)
                    names = [f"table{i % 10}/day={i % FOLDERS}/{i}.parquet" for i in range(size)]
                    results.append(run(root, names, aside))
            worst = max(results, key=lambda each: (each["lost"], each["answer_s"]))
            print(f"{name:9} {size:7,} renames: {results}", flush=True)
            found[f"{name}_{'storm' if size == RENAMES else 'quiet'}"] = worst
    report(found, "watchdog")


def _queue() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


if __name__ == "__main__":
    main()
