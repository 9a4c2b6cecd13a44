"""What ends or pauses land."""

from __future__ import annotations

from schemas.errors import FatalError


class ZombieError(FatalError):
    """Another process landed what this one was about to land."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"another land moved the ledger: {cause}; this one ends, nothing was landed twice")


class LogCutError(FatalError):
    """The ledger stands above the end of the log: the cluster was made again, or acknowledged records are gone."""

    def __init__(self, topic: str, partition: int, stands: int, end: int) -> None:
        self.topic = topic
        self.partition = partition
        super().__init__(
            f"cannot land {topic}[{partition}]: the ledger stands at {stands}, the log ends at {end}; "
            f"was the cluster made again? `tailrace topics adopt {topic}` goes on under a new epoch"
        )
