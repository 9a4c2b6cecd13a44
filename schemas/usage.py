"""What has landed of one app and model, as counters in the facts of land. No library: every `status` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEASURES = (
    *("calls", "unpriced", "cost_usd", "input_tokens", "output_tokens"),
    *("partly_priced", "cost_differs", "cost_reported", "cost_compared", "shadow"),
)
"""The values of one entry of ``facts["calls"]``, after app and model."""


def compared(facts: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many calls of ``facts`` have a reported and a computed cost, and of how many the two differ."""
    rows = [dict(zip(MEASURES, values, strict=False)) for _, _, *values in facts.get("calls", ())]
    both, differing = (sum(int(row.get(name) or 0) for row in rows) for name in ("cost_compared", "cost_differs"))
    return both, differing
