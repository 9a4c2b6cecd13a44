"""Moments and spans as people write them on a command line."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

from schemas.errors import FatalError

_SPAN = re.compile(r"(\d{1,6})\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class NotATimeError(FatalError):
    """A text is not a time, a span or a day."""

    def __init__(self, text: str, expected: str) -> None:
        super().__init__(f"cannot read {text[:80]!r}: expected {expected}")


def moment(text: str, now: int) -> int:
    """Read ``2h``, ``7d`` (ago) or an RFC 3339 time (UTC where it has no zone) as µs UTC.

    Raises:
        NotATimeError: it is neither.
    """
    try:
        if (ago := _span(text)) is not None:
            at = now - ago
        else:
            read = datetime.fromisoformat(text.strip())
            at = int((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1_000_000)
        if at < 0:
            raise ValueError
    except (ValueError, OverflowError):
        expected = "how long ago (90m, 2h, 7d) or a time since 1970 such as 2026-11-21T07:00:00Z"
        raise NotATimeError(text, expected) from None
    return at


def span(text: str) -> int:
    """Read ``90m``, ``2h``, ``7d`` as µs.

    Raises:
        NotATimeError: it is no span.
    """
    found = _span(text)
    if found is None:
        raise NotATimeError(text, "how long, such as 90m, 2h or 7d")
    return found


def day(text: str) -> date:
    """Read a day such as 2026-11-21.

    Raises:
        NotATimeError: it is none.
    """
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise NotATimeError(text, "a day such as 2026-11-21") from None


def distance(us: int) -> str:
    """Return how long ``us`` (µs) is, for people: 89 days, 5 hours, 40 seconds."""
    seconds = abs(us) // 1_000_000
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:,} {unit}s"
    return f"{seconds} seconds"


def _span(text: str) -> int | None:
    found = _SPAN.fullmatch(text.strip())
    return int(found.group(1)) * _SECONDS[found.group(2)] * 1_000_000 if found else None
