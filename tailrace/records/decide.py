"""Decisions about alerts: checked, written as audit records, and waited for until they have landed."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import get_args

from schemas.alerts import Severity
from schemas.errors import FatalError
from schemas.rollups import DERIVED, DIMENSIONS
from tailrace.times import moment, span
from warehouse.errors import LakeMissingError, LakeUnavailableError

FIELDS = ("rule", "detector", "severity")
NEW = ("prompt_name", "tool", "fingerprint", "scorer", "version", "index")
"""Dimensions that only alerts on what is new and on labels have (detectors ``novelty`` and ``live_quality``)."""
NAMES = (*FIELDS, "app", *DIMENSIONS, *DERIVED, "guardrail", "signal", "side", "topic", "partition", *NEW)
"""What an alert can be matched by: its own fields, then dimensions of its series."""
LONGEST_US = 28 * 86_400_000_000
"""Decisions are records of llm.log, which keeps 30 days."""
_LANDED_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.25


class NotADecisionError(FatalError):
    """An invalid silence or acknowledgement: a matcher that matches nothing, an invalid end."""

    def __init__(self, what: str, problem: str, remedy: str) -> None:
        super().__init__(f"{what}: {problem}; {remedy}")


def matchers(words: Sequence[str]) -> dict[str, str]:
    """Read ``app=shop rule=spike_cost``.

    Raises:
        NotADecisionError: no value, an unknown name, a name twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.strip()
        if not equals or not value:
            raise NotADecisionError(f"matcher {word[:60]!r}", "it is not NAME=VALUE", "write for example app=shop")
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1)
            remedy = f"did you mean {near[0]}? " if near else ""
            raise NotADecisionError(
                f"matcher {name[:60]!r}", "no alert has it", f"{remedy}known are {', '.join(NAMES)}"
            )
        if name in found:
            raise NotADecisionError(f"matcher {name!r}", "it is given twice", "make two silences")
        found[name] = value
    severities = get_args(Severity)
    if found.get("severity", severities[0]) not in severities:
        raise NotADecisionError(
            "matcher 'severity'", f"{found['severity'][:60]!r} is none", f"use {', '.join(severities)}"
        )
    return found


def until(length: str | None, end: str | None, now: int) -> int:
    """Return the end of a silence that begins ``now``, µs UTC: ``2h`` from now, or a time.

    Raises:
        NotADecisionError: both are given, it has passed, or it is too far away.
        NotATimeError: it cannot be read.
    """
    if length and end:
        raise NotADecisionError("--for", "--until is given, too", "give one of them")
    if end and not any(c in end for c in "-:"):
        raise NotADecisionError("--until", f"{end[:60]!r} is not a time", "write 2026-11-30T07:00:00Z, or --for 2h")
    at = moment(end, now) if end else now + span(length or "1h")
    if at <= now:
        raise NotADecisionError("--until" if end else "--for", "it is not after now", "name a later time")
    if at - now > LONGEST_US:
        remedy = "give at most 28d; for good, leave alerts out with min_severity or route of a channel"
        raise NotADecisionError("--until" if end else "--for", "it is too long", remedy)
    return at


def landed(there: Callable[[], bool]) -> bool:
    """Wait a few seconds until ``there``; whether it came. What was decided holds in either case."""
    deadline = time.monotonic() + _LANDED_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(LakeMissingError, LakeUnavailableError):
            if there():
                return True
        time.sleep(_LOOK_EVERY_S)
    return False


def canonical(pairs: Mapping[str, str]) -> str:
    """Write matchers as they are given."""
    return " ".join(f"{name}={value}" for name, value in pairs.items())
