"""When the lines of a file would have come to a broker: at their event time, in the order of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

import msgspec

from schemas.errors import UNREADABLE

SECOND = 1_000_000
_PENDING = 1_000
"""Lines without a time that wait for the next one with a time, at most."""
_THINNED = 60
"""Where nothing comes, the distance between two ticks is a 60th of the time since the last event."""


class _Timed(msgspec.Struct):
    ts: datetime | int


_DECODER = msgspec.json.Decoder(_Timed)


def time_of(line: bytes) -> int | None:
    """Return the event time of a line, µs UTC; None where it has none, or none that can be after 1970."""
    try:
        ts = _DECODER.decode(line).ts
        at = ts * 1000 if isinstance(ts, int) else int(ts.timestamp() * SECOND) if ts.tzinfo else None
    except UNREADABLE:
        return None
    return at if at is not None and 0 < at < 2**62 else None


@dataclass(slots=True)
class Line:
    """One line of the file."""

    value: bytes
    ts: int | None
    """Event time, µs UTC."""
    at: int = 0
    """Append time, µs UTC."""


def appended(values: Iterable[bytes]) -> Iterator[Line]:
    """Yield the lines with their append times: the event time of the line, and never less than before.

    An event time that is ahead of the next one is not used: one event dated 9999 would make all others late.
    A line without a time comes with its successor.
    """
    now, pending, held = 0, list[Line](), 0
    for value in values:
        line = Line(value, time_of(value))
        if line.ts is not None:
            if held:
                now = max(now, min(held, line.ts))
            yield from _dated(pending, now)
            pending, held = [], line.ts
        pending.append(line)
        if len(pending) > _PENDING:
            yield from _dated([pending.pop(0)], now)
    yield from _dated(pending, max(now, held))


def _dated(lines: Iterable[Line], at: int) -> Iterator[Line]:
    for line in lines:
        line.at = at
        yield line


def pieces(times: Sequence[int], first_offset: int, tick_us: int) -> list[tuple[int, int]]:
    """Cut lines with ascending append ``times`` where a tick comes between them.

    Returns:
        (next offset, time of the tick in µs UTC) of each piece, ascending.
    """
    found, offset = [], first_offset
    for tick, members in groupby(times, key=lambda at: -(-at // tick_us) * tick_us):
        offset += sum(1 for _ in members)
        found.append((offset, tick))
    return found


def ticks(after: int, last_event: int, until: int, tick_us: int) -> Iterator[int]:
    """Yield the times of the ticks in (after, until), rarer the longer nothing has come. µs UTC."""
    at = after
    while True:
        thinned = (at - last_event) // _THINNED // tick_us * tick_us
        at += max(tick_us, thinned)
        if at >= until:
            return
        yield at
