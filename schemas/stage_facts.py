"""What a stage reports of itself: one shape, from the stage through its run file to ``status``, metrics and alerts.

A run file is read by other versions during an upgrade. So its JSON is flat, unknown keys are kept, and what is missing
or of another type counts as not known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

Position = tuple[str, int]
"""(topic, partition)."""


class StageState(StrEnum):
    """What a stage is doing. The first group is reported by its process, the second is concluded from outside."""

    STARTING = "starting"
    OPENING = "opening"
    """The lake is being opened, columns of a newer version added."""
    READING = "reading"
    """State is being read: a model, a table, what was delivered."""
    RUNNING = "running"
    COMPARING = "comparing"
    """land: the log with what has landed of it."""
    REMEMBERING = "remembering"
    """land: the ids of the last records are read again."""
    COMMITTING = "committing"
    HELD = "held"
    """land: its breaker is open, a topic is not landed."""
    WAITING = "waiting"
    """For Kafka, the lake, or its share of the partitions."""
    RETRYING = "retrying"
    """Starts over after an error that may pass."""
    UNKNOWN = "unknown"
    """drift: its model does not answer."""
    STOPPED = "stopped"
    FAILED = "failed"

    SILENT = "silent"
    """Its process runs and has not reported for too long."""
    RESTARTING = "restarting"
    """Its process has ended; the supervisor starts another one."""
    FAILING = "failing"
    """It has ended several times at one position."""

    @classmethod
    def of(cls, text: object) -> StageState:
        """Return the state of that name; `RUNNING` for the words of other versions."""
        return cls(text) if isinstance(text, str) and text in cls._value2member_map_ else cls.RUNNING


TROUBLE = frozenset(
    (
        StageState.HELD,
        StageState.WAITING,
        StageState.RETRYING,
        StageState.UNKNOWN,
        StageState.OPENING,
        StageState.READING,
    )
)
"""States that a living stage reports when nothing moves."""
ENDED = frozenset((StageState.STOPPED, StageState.FAILED))
"""States that a process writes itself when it ends."""


class StageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One report. Positions, lags and event times have keys such as ``llm.events[0]``."""

    state: StageState = StageState.RUNNING
    error: str | None = None
    """Why it is in trouble; None: it is not."""
    progress: int | None = None
    """Grows with every slice of work. None: a report of the state alone, all else is as last reported."""
    lag: int | None = None
    """Records that were not read yet, of all partitions; None: not known."""
    waiting: Mapping[str, int] = {}
    """Partition -> records that were not read yet."""
    position: Mapping[str, int] = {}
    """Partition -> next offset to work on."""
    event_time: int | None = None
    """Up to which event time it has worked, µs UTC: of the partitions with a lag the least, else the greatest."""
    event_times: Mapping[str, int] = {}
    """Partition -> up to which event time it has worked, µs UTC."""
    arrival_time: int | None = None
    """The same by the time of arrival at the brokers, for stages whose records may be of any age."""
    committed_at: int | None = None
    """When it last committed to the lake, µs UTC."""
    repaired: tuple[str, ...] = ()
    """Settings of topics that it had to repair."""
    isolated: tuple[str, ...] = ()
    """Parts that raised an error and are left out."""
    numbers: Mapping[str, float] = {}
    """Further numbers of this stage, each a metric of its own."""
    details: Mapping[str, Any] = {}
    """Facts of one stage only, for one reader, as JSON-able values: usage, jobs, learning, evidence."""

    @classmethod
    def of(cls, report: object) -> StageFacts:
        """Read the facts of a run file; further keys are numbers or details."""
        found = dict(report) if isinstance(report, Mapping) else {}
        known: dict[str, Any] = {"state": StageState.of(found.pop("state", None))}
        for name, read in _READ.items():
            if (value := read(found.pop(name, None))) is not None:
                known[name] = value
        numbers = {name: value for name, value in found.items() if type(value) in (int, float)}
        return cls(**known, numbers=numbers, details={n: v for n, v in found.items() if n not in numbers})

    def flat(self) -> dict[str, Any]:
        """Return what is written into the run file: inverse of `of`."""
        fields = {name: value for name in _READ if (value := getattr(self, name)) not in (None, {}, ())}
        return {"state": self.state.value, "error": self.error, **fields, **self.numbers, **self.details}

    def after(self, last: StageFacts) -> StageFacts:
        """Return what holds after this report: of one of the state alone, all else is as in ``last``."""
        return msgspec.structs.replace(last, state=self.state, error=self.error) if self.progress is None else self


HeartbeatCallback = Callable[[StageFacts], None]
"""What a stage calls at least once a second while it makes progress."""


def at(position: Position) -> str:
    """Return a partition as facts name it: ``llm.events[0]``."""
    return f"{position[0]}[{position[1]}]"


def _integer(value: object) -> int | None:
    return value if type(value) is int else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _integers(value: object) -> dict[str, int] | None:
    return {str(k): v for k, v in value.items() if type(v) is int} if isinstance(value, Mapping) else None


def _texts(value: object) -> tuple[str, ...] | None:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else None


_READ: Mapping[str, Callable[[object], Any]] = {
    "error": _text,
    "progress": _integer,
    "lag": _integer,
    "waiting": _integers,
    "position": _integers,
    "event_time": _integer,
    "event_times": _integers,
    "arrival_time": _integer,
    "committed_at": _integer,
    "repaired": _texts,
    "isolated": _texts,
}
"""Field of `StageFacts` -> how it is read; None where it is not of its type."""
