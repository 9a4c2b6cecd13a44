"""What ends or pauses land."""

from __future__ import annotations

from schemas.errors import FatalError


class ZombieError(FatalError):
    """Another process landed what this one was about to land."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"another land moved the ledger: {cause}; this one ends, nothing was landed twice")


class LogCutError(FatalError):
    """The log is not the one that was landed: the cluster was made again, or acknowledged records are gone."""

    def __init__(self, topic: str, partition: int, stands: int, end: int) -> None:
        """Name the place.

        Args:
            topic: without prefix.
            partition: of it.
            stands: next offset of the ledger.
            end: where the log ends, or begins to be another one.
        """
        self.topic = topic
        self.partition = partition
        super().__init__(
            f"cannot land {topic}[{partition}]: the ledger stands at {stands}, but the log that was landed ends at "
            f"{end}; was the cluster made again, or its disk cut off? `tailrace topics adopt {topic}` goes on from "
            "there under a new epoch"
        )
