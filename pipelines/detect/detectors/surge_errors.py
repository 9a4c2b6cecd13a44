"""What a surge of errors consists of: the class of the errors, and how many of the calls are further attempts.

A client that retries raises the number of calls while the demand stays the same. So the alert splits the number of
calls into demand, further attempts and fallbacks.
"""

from __future__ import annotations

import numpy as np

from pipelines.detect.side import CODE, ERROR
from pipelines.detect.windows import Windows
from schemas.alerts import Cause

LEAST = 0.1
"""Share of the errors from which a class is named."""
MOST = 3
"""Classes that are named."""


def error_causes(windows: Windows, target: str, start: int, end: int, fallbacks: int) -> tuple[Cause, ...]:
    """Return the classes of the errors of a series and the split of its calls; empty where nothing is known.

    Args:
        windows: of the app.
        target: the series, as JSON.
        start: µs UTC.
        end: µs UTC.
        fallbacks: calls to another model than the first choice, in the same time.
    """
    side = windows.side
    row = side.index.get(target)
    if row is None:
        return ()
    cells = side.cells(start, end)
    cells = cells[cells[:, 0] == row]
    typed = cells[cells[:, 1] >= ERROR]
    counts = np.bincount(typed[:, 1] - ERROR, weights=typed[:, 2], minlength=len(side.errors))
    total = max(float(counts.sum()), 1.0)
    causes = [
        Cause(
            "error_type",
            side.errors[i],
            round(float(counts[i]) / total, 4),
            f"{side.errors[i]}: {counts[i] / total:.0%} of the errors",
        )
        for i in np.argsort(-counts, kind="stable")[:MOST].tolist()
        if counts[i] >= max(LEAST * total, 1)
    ]
    calls, retried = (int(cells[cells[:, 1] == CODE[name], 2].sum()) for name in ("calls", "retried_calls"))
    if retried or fallbacks:
        demand = max(calls - retried - fallbacks, 0)
        text = f"of {calls:,} calls {demand:,} are demand, {retried:,} further attempts, {fallbacks:,} fallbacks"
        causes.append(Cause("retries", "further attempts", round(retried / max(calls, 1), 4), text))
    return tuple(causes)
