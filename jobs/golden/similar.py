"""Texts that say nearly the same: MinHash finds who might, the Jaccard index of their shingles decides. Pure.

A. Broder, "On the resemblance and containment of documents" (1997); U. Manber's shingles.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np
import numpy.typing as npt

Shingles = npt.NDArray[np.uint64]
"""Hashes of the shingles of a text, sorted, each once."""
PERMUTATIONS = 64
_WORDS = re.compile(r"\w+")
_LENGTH = 3
_FEWEST_WORDS = 10
"""Below that a word more or less is most of the text: such a text is compared by characters."""
_LONGEST_WORDS = 12
"""Mean length of a word above which the text has none: scripts without blanks."""
_MARGIN = 0.2
"""Four standard deviations of an estimate at 0.8 (0.05 with 64 permutations): nobody is missed."""
_PRIME = np.uint64(4_294_967_291)
"""The greatest below 2^32: products stay below 2^64."""
_LOW = np.uint64(0xFFFFFFFF)
_DEVIATION = 0.05
"""The standard deviation of such an estimate."""
_SLICE = 4_096


def _coefficients(name: str) -> Shingles:
    """Return fixed ones: numpy's generators may change from version to version."""
    digests = (hashlib.sha256(f"{name}{i}".encode()).digest() for i in range(PERMUTATIONS))
    return np.array([1 + int.from_bytes(d[:8], "big") % (int(_PRIME) - 1) for d in digests], dtype=np.uint64)


_FACTORS, _TERMS = _coefficients("factor"), _coefficients("term")


def shingles(text: str) -> Shingles:
    """Return the hashes of all runs of three words; of three characters where a text is short or has no blanks."""
    words = _WORDS.findall(text.casefold())
    plain = " ".join(words) or text.strip()
    if len(words) >= _FEWEST_WORDS and len(plain) <= _LONGEST_WORDS * len(words):
        parts = {" ".join(words[i : i + _LENGTH]) for i in range(len(words) - _LENGTH + 1)}
    else:
        parts = {plain[i : i + _LENGTH] for i in range(max(1, len(plain) - _LENGTH + 1))}
    digests = (hashlib.blake2b(part.encode("utf-8", "surrogatepass"), digest_size=8).digest() for part in parts)
    return np.unique(np.fromiter((int.from_bytes(d, "big") for d in digests), dtype=np.uint64, count=len(parts)))


def signature(of: Shingles) -> npt.NDArray[np.uint32]:
    """Return the least of each permutation: (64,); two agree in as many places as their texts have in common."""
    least = np.full(PERMUTATIONS, _PRIME, dtype=np.uint64)
    for start in range(0, len(of), _SLICE):
        low = of[start : start + _SLICE] & _LOW
        hashed = (_FACTORS[:, None] * low[None, :] + _TERMS[:, None]) % _PRIME
        least = np.minimum(least, hashed.min(axis=1))
    return least.astype(np.uint32)


def sketch(text: str) -> str:
    """Return the signature of ``text`` as hex: it tells what says nearly the same, and not what was said."""
    return signature(shingles(text)).astype("<u4").tobytes().hex()


def jaccard(a: Shingles, b: Shingles) -> float:
    """Return the share of shingles that both have among those that either has."""
    both = np.intersect1d(a, b, assume_unique=True).size
    return float(both / (a.size + b.size - both))


class Known:
    """Texts by name, to be asked for those that say nearly the same as another one."""

    def __init__(self, similarity: float) -> None:
        """Take the Jaccard index from which on two texts say nearly the same."""
        self._similarity = similarity
        self._names: list[str] = []
        self._shingles: list[Shingles | None] = []
        self._signatures = np.empty((256, PERMUTATIONS), dtype=np.uint32)

    def like(self, of: Shingles) -> list[str]:
        """Return the names of all texts that say nearly the same."""
        stored = self._signatures[: len(self._names)]
        estimates = (stored == signature(of)).mean(axis=1)
        close = np.flatnonzero(estimates >= self._similarity - _MARGIN)
        return [self._names[i] for i in close if self._alike(self._shingles[i], of, estimates[i])]

    def _alike(self, text: Shingles | None, of: Shingles, estimate: float) -> bool:
        if text is None:  # rather one too many: somebody did not want it
            return bool(estimate >= self._similarity - _DEVIATION)
        return jaccard(text, of) >= self._similarity

    def add(self, name: str, of: Shingles) -> None:
        """Remember a text."""
        self._add(name, of, signature(of))

    def add_sketch(self, name: str, of: str) -> None:
        """Remember a text of which there is only what ``sketch`` returned: then the estimate decides."""
        self._add(name, None, np.frombuffer(bytes.fromhex(of), dtype="<u4").astype(np.uint32))

    def _add(self, name: str, text: Shingles | None, signed: npt.NDArray[np.uint32]) -> None:
        if len(self._names) == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[len(self._names)] = signed
        self._names.append(name)
        self._shingles.append(text)
