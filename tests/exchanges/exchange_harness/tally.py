"""What a comparison counts, and the moment at which it prices."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

AT = 1_787_227_200_000_000
"""2026-08-20T12:00:00Z in µs: every call is priced as of then, by the product and by the library."""


@dataclass
class Tally:
    """Counts by (provider, end of the path)."""

    compared: Counter[tuple[str, str]] = field(default_factory=Counter)
    agreed: Counter[tuple[str, str]] = field(default_factory=Counter)
    explained: Counter[tuple[str, str]] = field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(provider, why) of what is not comparable."""
    differences: list[tuple[str, str, str, Any, Any]] = field(default_factory=list)
    """(exchange, provider, column, the product's value, the reading's value)."""
