"""Which answers were given before to the same prompt: of a stock of prompts they are one observation, not many."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from pipelines.drift.points import Point


class Repeats:
    """The last pairs of prompt and answer, as hashes of 8 bytes."""

    def __init__(self, most: int, known: Iterable[bytes] = ()) -> None:
        self.most = most
        """Pairs that are kept."""
        self._known = dict.fromkeys(known)

    def take(self, prompt: Point, answer: Point) -> bool:
        """Keep a pair; True where it was known."""
        parts = prompt.vector + prompt.text.encode("utf-8", "surrogatepass") + answer.vector
        key = hashlib.blake2b(parts, digest_size=8).digest()
        again = key in self._known
        self._known.pop(key, None)  # the latest is the last to go
        self._known[key] = None
        if len(self._known) > self.most:
            del self._known[next(iter(self._known))]
        return again

    def save(self) -> list[bytes]:
        """Return the hashes, the latest last."""
        return list(self._known)
