"""What a supervisor decides about one child. Pure, so that every case can be tested."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from pipelines.backoff import exponential_s

FATAL_EXIT = 2
BACK_OFF_FIRST_S, BACK_OFF_LONGEST_S = 0.5, 20.0
HEALTHY_AFTER_S = 60.0
START_WITHIN_S = 60.0
"""Until its first heartbeat: importing alone takes 4 s of processor time, more where all start at once."""
SUSPENDED_AFTER_S = 5.0
"""A supervisor that looks five times a second and missed this long was not running itself."""


class Action(Enum):
    """What to do with a child now."""

    WAIT = "wait"
    START = "start"
    KILL = "kill"


@dataclass(frozen=True)
class Child:
    """The supervisor's state of one child. Times are seconds of one monotonic clock."""

    started: float | None = None
    failures: int = 0
    restarts: int = 0
    next_start: float = 0.0
    last_exit: int | None = None
    stalled: bool = False
    stalls: int = 0
    """How often it was killed because it stalled."""


@dataclass(frozen=True)
class Observation:
    """What can be observed of a child."""

    alive: bool
    exit_code: int | None
    silent_s: float
    """Since its last heartbeat, or since its start where it has sent none."""
    has_reported: bool = True
    failing: bool = False
    """It ended several times at one position: a long life proves nothing then."""


def decide(child: Child, seen: Observation, now: float, stall_after_s: float) -> tuple[Child, Action]:
    """Return the next state and the action.

    An ended child is started again after a back-off that doubles from 0.5 s to 20 s and is reset after a healthy
    minute. A child that runs and sends no heartbeat for longer than ``stall_after_s`` is killed (Faust's known hang).
    """
    if child.started is None:
        return child, Action.START if now >= child.next_start else Action.WAIT
    if seen.alive:
        if seen.silent_s > (stall_after_s if seen.has_reported else max(stall_after_s, START_WITHIN_S)):
            return replace(child, stalled=True, stalls=child.stalls + (not child.stalled)), Action.KILL
        return child, Action.WAIT
    healthy = now - child.started > HEALTHY_AFTER_S and not child.stalled and not seen.failing
    failures = 1 if healthy else child.failures + 1
    pause = BACK_OFF_LONGEST_S if seen.exit_code == FATAL_EXIT else back_off(failures)
    ended = replace(
        child, started=None, failures=failures, next_start=now + pause, last_exit=seen.exit_code, stalled=False
    )
    return ended, Action.WAIT


@dataclass(frozen=True)
class Suspension:
    """Since when the supervisor has been watching without a break. Seconds of the same clock."""

    since: float
    looked: float

    def look(self, now: float) -> Suspension:
        """Return the state after a check at ``now``.

        Where the supervisor itself was suspended (SIGSTOP to all, a paused machine), missing heartbeats are no evidence
        about the children: their stall period starts again. A laptop's sleep stops the monotonic clock and is not seen
        at all.
        """
        return Suspension(now if now - self.looked > SUSPENDED_AFTER_S else self.since, now)


@dataclass(frozen=True)
class LastHeartbeat:
    """The last heartbeat of one process, and when the supervisor first saw it: on its monotonic clock."""

    pid: int
    written_ns: int | None
    """None: it has sent none."""
    at: float


def last_heartbeat(heartbeat: LastHeartbeat | None, pid: int, written_ns: int | None, now: float) -> LastHeartbeat:
    """Return the last heartbeat, given that the run file of ``pid`` has ``written_ns`` (None: nothing of this process).

    A jump of the wall clock, either way, changes ``written_ns`` once and nothing else.
    """
    if heartbeat is not None and heartbeat.pid == pid and (written_ns is None or written_ns == heartbeat.written_ns):
        return heartbeat
    return LastHeartbeat(pid, written_ns, now)


def silent_for_s(heartbeat: LastHeartbeat, suspension: Suspension, now: float) -> float:
    """Return for how many seconds a process has sent no heartbeat while the supervisor was watching."""
    return min(now - heartbeat.at, now - suspension.since)


def back_off(failures: int) -> float:
    """Return the pause before start number ``failures`` + 1, seconds."""
    return exponential_s(failures, first_s=BACK_OFF_FIRST_S, longest_s=BACK_OFF_LONGEST_S)


def start(child: Child, now: float) -> Child:
    """Return ``child`` as started at ``now``."""
    first = child.last_exit is None and child.failures == 0
    return replace(child, started=now, restarts=child.restarts if first else child.restarts + 1)
