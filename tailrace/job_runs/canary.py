"""The canary's shell: looks at the lake again and again, and sends each decision to the channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from jobs.gate.canary import Canary, Decision, decide, message
from jobs.gate.sequential import Comparison
from pipelines.notify.channels import Report
from pipelines.notify.reports import Delivered
from schemas.errors import RetryableError

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Outside:
    """What the watch needs from the world."""

    look: Callable[[int], Sequence[Comparison]]
    """Compares the calls since a moment, µs UTC."""
    send: Callable[[Report], Sequence[Delivered]]
    """Sends to every channel; empty where there is none."""
    now: Callable[[], int]
    """µs UTC."""
    wait: Callable[[float], bool]
    """Waits for the given seconds; True where the watch should stop."""
    show: Callable[[Decision, Sequence[Comparison]], None]


@dataclass(frozen=True)
class Pace:
    """How often the watch looks, and how long a stage may take."""

    every_s: float
    stage_s: float


def watch(canary: Canary, share: int, began: int, outside: Outside, pace: Pace) -> Decision:
    """Look until B has all traffic, is withdrawn, or a stage finds nothing in its time.

    A decision that no channel accepted is no advance: the traffic was not moved. It is sent again at the
    next look. ``hold`` is sent once, at the end.

    Args:
        canary: what is released.
        share: percent that B gets now.
        began: when it began to get it, µs UTC.
        outside: lake, channels, clock.
        pace: how often and how long.

    Returns:
        The last decision.
    """
    while True:
        found = _looked(outside, began)
        decision = decide(found, canary, share)
        now = outside.now()
        late = now - began >= pace.stage_s * 1e6
        outside.show(decision, found)
        sent = decision.action != "hold" or late
        delivered = _send(decision, canary, found, began, outside) if sent else False
        if decision.action == "rollback" or (decision.action == "hold" and late):
            return decision
        if decision.action == "advance" and delivered:
            if decision.next_share == canary.shares[-1]:
                return decision
            share, began = decision.next_share, now
        if outside.wait(pace.every_s) or (late and not delivered):
            return Decision("hold", share, share, decision.reasons)


def _looked(outside: Outside, began: int) -> Sequence[Comparison]:
    """Return what was found; nothing, which is a hold, where the lake does not answer."""
    try:
        return outside.look(began)
    except RetryableError as error:
        log.warning("canary_look_failed", error=str(error))
        return ()


def _send(decision: Decision, canary: Canary, found: Sequence[Comparison], began: int, outside: Outside) -> bool:
    """Send ``decision``; True where every channel has it, also where there is none."""
    report = message(decision, canary, found, began=began, at=outside.now())
    results = outside.send(report)
    log.info("canary_decided", action=decision.action, share=decision.share, id=report.id, channels=len(results))
    return all(each.ok for each in results)
