"""``status`` as people read it: a table that fits 80 columns, and below each stage why it is not well. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from tailrace.cli.render.printable import printable
from tailrace.supervisor.pace import CURRENT_S

_UNKNOWN = "not known yet"


def lines(found: dict[str, Any], *, width: int) -> Iterator[str]:
    """Yield the lines of the document of `tailrace.monitor.status.status`."""
    kafka = found["kafka"]["bootstrap_servers"] or "not known"
    yield f"{'ready' if found['ready'] else 'not ready'}   kafka {printable(kafka)}"
    if found["web"]["url"]:
        yield f"metrics {printable(found['web']['url'])}/metrics"
    if costs := found["costs"]["compared"]:
        share = found["costs"]["differing_share"]
        yield f"costs   {share:.1%} of {costs:,} reported costs are more than 1 % off the computed ones"
    if (learns := found.get("learning")) and learns["series"]:
        yield f"series  {learns['learning_share']:.1%} of {learns['series']:,} are still learning what is usual"
    for each in found.get("disk", ()):
        yield from textwrap.wrap(printable(_disk(each)), width, subsequent_indent="        ")
    yield ""
    yield f"{'stage':9} {'state':10} {'records':>9}  {'behind':>9}  {'done in':>13}  {'restarts':>8}".rstrip()
    for name, stage in found["stages"].items():
        lag = "?" if stage["lag"] is None else f"{stage['lag']:,}"
        row = f"{name:9} {stage['state']:10} {lag:>9}  {_behind(stage):>9}  {_done_in(stage):>13}"
        yield f"{row}  {stage['restarts']:>8}"
        for note in _notes(stage):
            yield from textwrap.wrap(printable(note), width, initial_indent="  ", subsequent_indent="    ")


def duration(seconds: float) -> str:
    """Return a span in its two largest units: 40 s, 12 min, 3 h 10 min, 13 d 4 h."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    if minutes < 120:
        return f"{minutes} min"
    if hours < 48:
        return f"{hours} h {minutes % 60} min" if minutes % 60 else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"


def _disk(disk: dict[str, Any]) -> str:
    """Return ``disk    41.2 GB free of 98.1 GB; 1.3 GB more a day: full in about 31 d 16 h``."""
    name = "disk" if disk["place"] == "home" else f"disk of the {disk['place']}"
    text = f"{name:7} {_size(disk['free_bytes'])} free of {_size(disk['total_bytes'])}"
    growth, left = disk["growth_bytes_per_day"], disk["full_in_s"]
    if growth is None:
        return text
    if left is None:
        return f"{text}; it does not fill up"
    return f"{text}; {_size(growth)} more a day: full in about {duration(left)}"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.4g} TB"


def _behind(stage: dict[str, Any]) -> str:
    if stage["behind_s"] is None:
        return "?"
    return "-" if stage["behind_s"] <= CURRENT_S else duration(stage["behind_s"])


def _done_in(stage: dict[str, Any]) -> str:
    if (behind := _behind(stage)) == "-" or (behind == "?" and stage["pid"] is None):
        return behind
    return _UNKNOWN if not stage["done_in_s"] else duration(stage["done_in_s"])


def _notes(stage: dict[str, Any]) -> Iterator[str]:
    if stage["error"]:
        yield stage["error"]
    yield from stage["isolated"]
    if not stage["current"]:
        done = _done_in(stage)
        yield f"behind by {_behind(stage)}, " + (
            "not known yet when done" if done == _UNKNOWN else f"done in about {done}"
        )
    last = stage["last_exit"]
    if last and stage["state"] not in ("failing", "restarting"):
        yield f"last ended {last['at']}: {last['reason']}" + (f": {last['error']}" if last["error"] else "")
