"""How long copies of a stage take to work off a backlog on one machine, from what a batch costs one copy. Pure.

A simulation of events: each copy prepares a batch (poll, decode), then commits it. Copies share the cores: where they
ask for more than there are, all of them slow down alike. Where commits are exclusive (land: DuckLake refuses a
transaction that changes the ledger while another one that changed it committed), the first one to commit wins, and the
other runs its transaction again after the back-off of ``warehouse.storage.session``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BACK_OFF_S = 0.0275
"""Mean of the first wait of ``Session.run``; the n-th is n times as long, up to ten times."""
_LEAST_S = 1e-9


@dataclass(frozen=True)
class Work:
    """What a phase takes: of every batch, and of every event in it. CPU of all processes that work for it."""

    fixed_s: float = 0.0
    each_s: float = 0.0
    fixed_cpu_s: float = 0.0
    each_cpu_s: float = 0.0

    def wall(self, events: int) -> float:
        """Return the seconds that it takes alone on an idle machine."""
        return max(_LEAST_S, self.fixed_s + self.each_s * events)

    def cores(self, events: int) -> float:
        """Return how many cores are busy meanwhile, on average."""
        return (self.fixed_cpu_s + self.each_cpu_s * events) / self.wall(events)


@dataclass(frozen=True)
class Stage:
    """A batch of a stage: first ``prepare``, then ``commit``."""

    batch: int
    """Most events of one batch."""
    prepare: Work
    commit: Work
    exclusive: bool = False
    """Whether a commit is refused while another copy's was made since it began."""


@dataclass(frozen=True)
class Drained:
    """A backlog that was worked off."""

    seconds: float
    commits: int
    retries: int


@dataclass
class _Copy:
    left: int
    """Events that it has not committed."""
    batch: int = 0
    phase: str = "idle"
    remaining_s: float = 0.0
    cores: float = 0.0
    seen: int = 0
    """Commits of all copies when its transaction began."""
    tries: int = 0


@dataclass
class _Run:
    stage: Stage
    copies: list[_Copy]
    cores: float
    seconds: float = 0.0
    commits: int = 0
    retries: int = 0
    working: list[_Copy] = field(default_factory=list)

    def enter(self, copy: _Copy, phase: str) -> None:
        """Begin ``phase``."""
        copy.phase = phase
        if phase == "wait":
            copy.remaining_s, copy.cores = BACK_OFF_S * min(copy.tries, 10), 0.0
            return
        work = self.stage.prepare if phase == "prepare" else self.stage.commit
        copy.remaining_s, copy.cores = work.wall(copy.batch), work.cores(copy.batch)
        copy.seen = self.commits

    def next_batch(self, copy: _Copy) -> None:
        """Begin with the next batch, or end."""
        copy.batch, copy.tries = min(self.stage.batch, copy.left), 0
        if copy.batch:
            self.enter(copy, "prepare")
        else:
            copy.phase = "idle"

    def ended(self, copy: _Copy) -> None:
        """Go on after the phase that ``copy`` has ended."""
        if copy.phase in ("prepare", "wait"):
            self.enter(copy, "commit")
        elif self.stage.exclusive and copy.seen != self.commits:
            self.retries += 1
            copy.tries += 1
            self.enter(copy, "wait")
        else:
            self.commits += 1
            copy.left -= copy.batch
            self.next_batch(copy)

    def advance(self) -> bool:
        """Move time to the end of the next phase; False where no copy works any more."""
        working = [copy for copy in self.copies if copy.phase != "idle"]
        if not working:
            return False
        asked = sum(copy.cores for copy in working)
        speed = min(1.0, self.cores / asked) if asked else 1.0
        speeds = {id(copy): speed if copy.cores else 1.0 for copy in working}
        step = min(copy.remaining_s / speeds[id(copy)] for copy in working)
        self.seconds += step
        for copy in working:
            copy.remaining_s -= step * speeds[id(copy)]
        for copy in working:
            if copy.remaining_s <= _LEAST_S:
                self.ended(copy)
        return True


def drain(stage: Stage, *, events: int, copies: int, cores: float) -> Drained:
    """Return how long ``copies`` need for ``events`` that are dealt among them evenly.

    Args:
        stage: what a batch costs.
        events: of the backlog.
        copies: that work on it; each has partitions of its own.
        cores: that they and the servers they use share.
    """
    shares = [events // copies + (n < events % copies) for n in range(copies)]
    run = _Run(stage, [_Copy(share) for share in shares], cores)
    for copy in run.copies:
        run.next_batch(copy)
    while run.advance():
        pass
    return Drained(run.seconds, run.commits, run.retries)
