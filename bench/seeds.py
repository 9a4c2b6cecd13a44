"""Whole demos, one seed after the other, and calm ones: exactly the planted incidents alert, and nothing else.

QUICK=1 plays 2 seeds and 1 calm stream; the full form 20 and 3. Each demo takes about two and a half minutes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from _report import report

QUICK = os.environ.get("QUICK") == "1"
FIRST = int(os.environ.get("FIRST_SEED", "1"))
SEEDS = int(os.environ.get("SEEDS", "2" if QUICK else "20"))
CALM = int(os.environ.get("CALM", "1" if QUICK else "3"))


def main() -> None:
    """Play, judge, print."""
    runs = [(seed, False) for seed in range(FIRST, FIRST + SEEDS)] + [
        (seed, True) for seed in range(FIRST, FIRST + CALM)
    ]
    found = [play(seed, calm=calm) for seed, calm in runs]
    failed = [f for f in found if f["problems"] or not f["verified"]]
    seconds = sorted(f["seconds"] for f in found)
    report(
        {
            "seeds": SEEDS,
            "calm": CALM,
            "failed": len(failed),
            "seconds": {"min": seconds[0], "median": seconds[len(seconds) // 2], "max": seconds[-1]},
        }
    )
    if failed:
        sys.exit(1)


def play(seed: int, *, calm: bool) -> dict[str, Any]:
    """Run one demo as a user would; return what it printed."""
    command = [sys.executable, "-m", "tailrace", "demo", "--exit", "--json", "--seed", str(seed)]
    ran = subprocess.run([*command, *(["--calm"] if calm else [])], capture_output=True, text=True, check=False)
    lines = ran.stdout.strip().splitlines()
    if not lines:
        return {"problems": [ran.stderr.strip()[-500:]], "verified": False, "seconds": 0.0}
    told: dict[str, Any] = json.loads(lines[-1])
    print(f"seed {seed}{' calm' if calm else ''}: {told['seconds']} s, problems {told['problems']}", flush=True)
    return told


if __name__ == "__main__":
    main()
