"""When something happened, as people on call read it: the whole time, and how long ago. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def parsed(text: str) -> datetime | None:
    """Read a time of an alert (RFC 3339, UTC where no zone is given); None where it is none."""
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def clock(moment: datetime, at: datetime | None) -> str:
    """``14:53:10 UTC``; with its day where that is not the day of ``at``."""
    known = at is not None and moment.date() == at.date()
    return f"{moment:%H:%M:%S} UTC" if known else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def between(start: datetime, end: datetime, at: datetime | None) -> str:
    """``14:53:10 to 15:05:30 UTC``; the day once, or on both where they differ."""
    if start.date() == end.date():
        return f"{clock(start, at).removesuffix(' UTC')} to {end:%H:%M:%S} UTC"
    return f"{clock(start, None)} to {clock(end, None)}"


def span(length: timedelta) -> str:
    """``45 s``, ``12 min``, ``5 h 10 min``, ``3 d 4 h``: the two largest units that count."""
    seconds = max(0, int(length.total_seconds()))
    minutes, hours = seconds // 60, seconds // 3600
    if seconds < 120:
        return f"{seconds} s"
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return _two(hours, "h", minutes % 60, "min")
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, unit: str, small: int, part: str) -> str:
    return f"{large} {unit} {small} {part}" if small else f"{large} {unit}"


def ago(moment: datetime, at: datetime | None) -> str:
    """``, 2 min ago``; "" without a clock, or where ``moment`` is ahead of it."""
    return f", {span(at - moment)} ago" if at is not None and at >= moment else ""


def from_micros(at: int | None) -> datetime | None:
    """Read µs UTC as a time; None stays None."""
    return None if at is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
