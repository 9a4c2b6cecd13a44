"""The wall clock. Loops read it and hand the value on; pure functions get the time as an argument."""

from __future__ import annotations

import time


def now_us() -> int:
    """Return the current time, µs UTC."""
    return time.time_ns() // 1_000
