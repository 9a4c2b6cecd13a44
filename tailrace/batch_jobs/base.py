"""What every batch job declares: its line in the timetable, how it runs, whether the settings enable it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jobs.schedule import Job

if TYPE_CHECKING:
    from tailrace.cli.context import Context
    from tailrace.settings.model import Settings

Stop = Callable[[], bool]


class Report(Protocol):
    """What every job returns."""

    @property
    def ok(self) -> bool:
        """False where it found something wrong: exit 1."""

    def to_json(self) -> str:
        """Encode for ``--json``, and for the record of the run."""


Run = Callable[["Context", Stop], tuple[Report, str]]
"""From what the command was given and ``stop`` to the report, and the same in words. It imports what it needs itself,
so that `job list` and the scheduler stay small."""


@dataclass(frozen=True)
class BatchJob:
    """One batch job. The timetable, `job list`, `job run` and docs/reference/jobs.md are made of these."""

    line: Job
    run: Run
    wanted: Callable[[Settings], bool] = lambda settings: True
    """Whether the scheduler runs it with these settings; `job run` runs it in any case."""
    page: str = ""
    """The page about it, relative to docs/."""

    @property
    def name(self) -> str:
        """As in `job run NAME`."""
        return self.line.name
