"""What ends or pauses land."""

from __future__ import annotations

from schemas.errors import FatalError


class ZombieError(FatalError):
    """Another process landed what this one was about to land."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"another land moved the ledger: {cause}; this one ends, nothing was landed twice")
