"""How full the disks of the home are, and when they will be full at the pace of the last day."""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tailrace.home.layout import Home

EVERY_S = 600.0
"""Between two samples."""
KEPT = 145
"""Samples: a day."""
LEAST_S = 3600.0
"""A shorter history is not used for the forecast."""
_FILE = "disk"
Sample = tuple[int, int]
"""Time in µs UTC, bytes used."""


def places(home: Home, data_path: str) -> Iterator[tuple[str, Path]]:
    """Yield (name, folder): the home, and the lake where it is on another file system of this machine."""
    yield "home", home.path
    lake = Path(data_path)
    local = "://" not in data_path and lake.is_dir() and home.path.is_dir()
    if local and os.stat(lake).st_dev != os.stat(home.path).st_dev:
        yield "lake", lake


def sample(home: Home, data_path: str, *, at: int) -> None:
    """Add a sample to the home's history, where the last one is old enough; ``at`` in µs UTC."""
    known = (home.read_run(_FILE) or {}).get("samples", {})
    found: dict[str, list[Sample]] = {}
    for name, folder in places(home, data_path):
        earlier = [(int(t), int(used)) for t, used in known.get(name, []) if t <= at]
        if not earlier or at - earlier[-1][0] >= EVERY_S * 1e6:
            earlier.append((at, _used(folder)))
        found[name] = earlier[-KEPT:]
    if found != {name: [tuple(each) for each in rows] for name, rows in known.items()}:
        home.write_run(_FILE, {"samples": found})


def facts(home: Home, data_path: str) -> list[dict[str, Any]]:
    """Return, for each disk: place, path, free and total bytes, growth a day, and seconds until it is full.

    Growth and time are None where the history is shorter than an hour; the time is None where nothing grows.
    """
    samples: Mapping[str, Sequence[Sample]] = (home.read_run(_FILE) or {}).get("samples", {})
    found = []
    for name, folder in places(home, data_path):
        try:
            usage = shutil.disk_usage(folder)
        except OSError:
            continue
        growth = growth_per_s(samples.get(name, ()))
        found.append(
            {
                "place": name,
                "path": str(folder),
                "free_bytes": usage.free,
                "total_bytes": usage.total,
                "growth_bytes_per_day": None if growth is None else round(growth * 86_400),
                "full_in_s": round(usage.free / growth) if growth and growth > 0 else None,
            }
        )
    return found


def growth_per_s(samples: Sequence[Sequence[int]]) -> float | None:
    """Return the median slope over all pairs (Theil and Sen), bytes a second: a merge or a clean-up does not bend it.

    Sen 1968, https://doi.org/10.1080/01621459.1968.10480934.
    """
    if len(samples) < 3 or samples[-1][0] - samples[0][0] < LEAST_S * 1e6:
        return None
    slopes = [
        (later[1] - earlier[1]) / ((later[0] - earlier[0]) / 1e6)
        for number, earlier in enumerate(samples)
        for later in samples[number + 1 :]
        if later[0] > earlier[0]
    ]
    return statistics.median(slopes) if slopes else None


def _used(folder: Path) -> int:
    usage = shutil.disk_usage(folder)
    return usage.total - usage.free
