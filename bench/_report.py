"""What every bench prints: the machine and the versions first, one JSON object last."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPO = Path(__file__).parent.parent
QUICK = bool(os.environ.get("QUICK"))


def machine(*distributions: str) -> str:
    """Return date, machine, load and versions in one line."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) >> 20 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in distributions)
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} x {model}, {memory} GiB, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, {versions}"
    )


def spread(values: Sequence[float], digits: int = 0) -> list[float]:
    """Return least, median, greatest."""
    return [round(f(values), digits or None) for f in (min, statistics.median, max)]


def report(figures: dict[str, Any], *distributions: str) -> None:
    """Print the last line."""
    sys.stdout.write(json.dumps({**figures, "machine": machine(*distributions), "quick": QUICK}) + "\n")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
