"""Whether a stage is failing: it ended again and again at one position. Pure, so that every case can be a test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipelines.backoff import exponential_s
from schemas.stage_facts import StageFacts

FAILING_AFTER = 3
"""Ends at one position before a stage counts as failing: one kill and one crash may be chance."""
_LONGER_AT_MOST = 8
_SHOWN = 3


@dataclass(frozen=True)
class Mark:
    """How far a stage has worked, a partition: as its facts have it."""

    position: Mapping[str, int] = field(default_factory=dict)
    """Topic and partition -> next offset."""
    event_times: Mapping[str, int] = field(default_factory=dict)
    """Topic and partition -> up to which it has worked, µs UTC: grows inside one record, and survives a restart."""

    @classmethod
    def of(cls, facts: StageFacts) -> Mark:
        """Return how far a stage is by its report."""
        return cls(facts.position, facts.event_times)

    def beyond(self, other: Mark) -> set[str]:
        """Return the partitions that are farther here than in ``other``.

        Lower offsets are no step: a stage that reads its topic from the start each time comes to where it failed.
        """
        far = {at for at, offset in self.position.items() if offset > other.position.get(at, -1)}
        return far | {at for at, time in self.event_times.items() if time > other.event_times.get(at, -1)}

    def joined(self, other: Mark) -> Mark:
        """Return the farther of both, a partition."""
        return Mark(_farther(self.position, other.position), _farther(self.event_times, other.event_times))


@dataclass(frozen=True)
class Track:
    """The progress of one stage over all its processes, as the supervisor has seen it."""

    best: Mark = field(default_factory=Mark)
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Topic and partition -> records not read, as last reported."""
    stuck: Mapping[str, int] = field(default_factory=dict)
    """Topic and partition with records to read -> ends since it last got farther. "": ends since any of them did."""
    stalls: int = 0
    """Ends by a kill for no progress, while anything is stuck."""
    since: int | None = None
    """Of the first of these ends, µs UTC."""
    cause: str = ""
    """Of the last of them."""

    @property
    def ends(self) -> int:
        """How often the stage ended at one position."""
        return max(self.stuck.values(), default=0)

    @property
    def failing(self) -> bool:
        """Whether the stage is shown as failing: one partition suffices, however far the others get."""
        return self.ends >= FAILING_AFTER

    @property
    def where(self) -> str:
        """Its position: of the partitions that are stuck, else of those with records to read, at most three."""
        known = self.best.position
        longest = {at for at, ends in self.stuck.items() if at and ends == self.ends}
        at = longest or {at for at in known if self.waiting.get(at, 0) > 0} or set(known)
        if not at:
            return "its start, before the first position"
        shown = [f"{_topic(each)}@{known[each]}" for each in sorted(at)]
        more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
        return ", ".join(shown[:_SHOWN]) + more

    def look(self, facts: StageFacts, *, healthy: bool) -> Track:
        """Return the track after a look at a running process.

        Args:
            facts: its last report.
            healthy: it has run for a while and nothing waits, so that earlier failures are over.
        """
        mark, waiting = Mark.of(facts), facts.waiting
        if healthy:
            return Track(mark, waiting)
        stuck = self.stuck
        if moved := mark.beyond(self.best):
            stuck = {at: ends for at, ends in stuck.items() if at and at not in moved}
        track = replace(self, best=mark.joined(self.best), waiting=waiting or self.waiting, stuck=stuck)
        return track if stuck else replace(track, stalls=0, since=None, cause="")

    def end(self, cause: str, *, at: int, stalled: bool) -> Track:
        """Return the new state after a process ended for ``cause``."""
        stuck = {"", *(place for place in self.best.position if self.waiting.get(place, 0) > 0)}
        return replace(
            self,
            stuck={**self.stuck, **{place: self.stuck.get(place, 0) + 1 for place in stuck}},
            stalls=self.stalls + stalled,
            since=at if self.since is None else self.since,
            cause=cause,
        )

    def stall_after_s(self, usual_s: float) -> float:
        """Return how long it may make no progress now: twice as long after each stall at one position, up to 8 times.

        So a step that is slow on a busy machine is finished, instead of being restarted without end.
        """
        return exponential_s(self.stalls + 1, first_s=usual_s, longest_s=usual_s * _LONGER_AT_MOST)


def _farther(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {at: max(one.get(at, -1), other.get(at, -1)) for at in {**one, **other}}


def _topic(at: str) -> str:
    return f"partition {at}" if re.fullmatch(r"\d+", at) else at
