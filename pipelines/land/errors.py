"""What ends or pauses land."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.errors import FatalError


class ZombieError(FatalError):
    """Another process landed what this one was about to land."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"another land moved the ledger: {cause}; this one ends, nothing was landed twice")


class LogCutError(FatalError):
    """Logs are not the ones that were landed: the cluster was made again, or acknowledged records are gone."""

    def __init__(self, cuts: Mapping[tuple[str, int], tuple[int, int]]) -> None:
        """Name the places.

        Args:
            cuts: (topic, partition) -> (next offset of the ledger, where the log ends or begins to be another one).
        """
        self.topics = tuple(sorted({topic for topic, _ in cuts}))
        places = "; ".join(
            f"{topic}[{partition}]: the ledger stands at {stands}, but the log that was landed ends at {end}"
            for (topic, partition), (stands, end) in sorted(cuts.items())
        )
        super().__init__(
            f"cannot land {places}. Was the cluster made again, or did its disk lose its end? "
            f"`tailrace topics adopt {' '.join(self.topics)}` goes on from there under a new epoch"
        )
