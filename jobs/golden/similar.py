"""Near duplicates: MinHash finds candidates, the Jaccard index of their shingles decides. Pure.

A. Broder, "On the resemblance and containment of documents" (1997); U. Manber's shingles.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Shingles = npt.NDArray[np.uint64]
"""Hashes of the shingles of a text, sorted, each once."""
PERMUTATIONS = 64
SKETCHED = 256
"""Permutations of a sketch: two bits carry little information, so there are more of them."""
_WORDS = re.compile(r"\w+")
_LENGTH = 3
_FEWEST_WORDS = 10
"""Fewest words of a text that is compared by words: in a shorter text one word is a large part, so it is compared by
characters.
"""
_LONGEST_WORDS = 12
"""Mean length of a word above which the text has none: scripts without blanks."""
_MARGIN = 0.2
"""Four standard deviations of an estimate at 0.8 (0.05 with 64 permutations): no near duplicate is missed."""
_PRIME = np.uint64(4_294_967_291)
"""The greatest below 2^32: products stay below 2^64."""
_LOW = np.uint64(0xFFFFFFFF)
_BITS = np.uint8(3)
"""What a sketch keeps of each least hash."""
_CHANCE = 0.25
"""Share of such values that are equal where the least hashes are not."""
_CLOSE = 0.06
"""Two standard deviations of the estimate of a sketch at 0.8 (0.03, measured at 20 to 1,000 words)."""
_ENOUGH = 128
"""Shingles of characters from which on a sketch is made of them: with a dictionary of all 19,683 of a to z, 13 of 15
could be read from one, 18 of 36, and 20 of 128."""
_SLICE = 4_096


def _coefficients(name: str) -> Shingles:
    """Return fixed ones: numpy's generators may change from version to version."""
    digests = (hashlib.sha256(f"{name}{i}".encode()).digest() for i in range(SKETCHED))
    return np.array([1 + int.from_bytes(d[:8], "big") % (int(_PRIME) - 1) for d in digests], dtype=np.uint64)


_FACTORS, _TERMS = _coefficients("factor"), _coefficients("term")


@dataclass(frozen=True)
class TextSketch:
    """A text, as it is compared."""

    shingles: Shingles
    sketched: Shingles
    """What a sketch is made of: the same; of a short text the hash of all of it."""


def read(text: str) -> TextSketch:
    """Return ``text`` as runs of three words; of three characters where it is short or has no blanks."""
    words = _WORDS.findall(text.casefold())
    plain = " ".join(words) or text.strip()
    if len(words) >= _FEWEST_WORDS and len(plain) <= _LONGEST_WORDS * len(words):
        of = _hashes({" ".join(words[i : i + _LENGTH]) for i in range(len(words) - _LENGTH + 1)})
        return TextSketch(of, of)
    of = _hashes({plain[i : i + _LENGTH] for i in range(max(1, len(plain) - _LENGTH + 1))})
    return TextSketch(of, of if len(of) >= _ENOUGH else _hashes({plain}))


def _hashes(parts: set[str]) -> Shingles:
    digests = (hashlib.blake2b(part.encode("utf-8", "surrogatepass"), digest_size=8).digest() for part in parts)
    return np.unique(np.fromiter((int.from_bytes(d, "big") for d in digests), dtype=np.uint64, count=len(parts)))


def signature(of: Shingles, permutations: int = PERMUTATIONS) -> npt.NDArray[np.uint32]:
    """Return the least of each permutation; two agree in as many places as their texts have in common."""
    factors, terms = _FACTORS[:permutations, None], _TERMS[:permutations, None]
    least = np.full(permutations, _PRIME, dtype=np.uint64)
    for start in range(0, len(of), _SLICE):
        low = of[start : start + _SLICE] & _LOW
        least = np.minimum(least, ((factors * low[None, :] + terms) % _PRIME).min(axis=1))
    return least.astype(np.uint32)


def sketch(text: str) -> str:
    """Return two bits of each minimum hash, as hex: enough to recognise near duplicates, or equal short texts.

    Whole least hashes could be looked up in a dictionary of shingles. P. Li, A. König, "b-Bit Minwise Hashing" (2010).
    """
    pairs = _two_bits(read(text)).reshape(-1, 4) << np.array([0, 2, 4, 6], dtype=np.uint8)
    packed: npt.NDArray[np.uint8] = np.bitwise_or.reduce(pairs, axis=1).astype(np.uint8)
    return packed.tobytes().hex()


def _two_bits(text: TextSketch) -> npt.NDArray[np.uint8]:
    return signature(text.sketched, SKETCHED).astype(np.uint8) & _BITS


def _unpacked(of: str) -> npt.NDArray[np.uint8]:
    packed = np.frombuffer(bytes.fromhex(of), dtype=np.uint8)
    return ((packed[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8)) & _BITS).reshape(-1)


def jaccard(a: Shingles, b: Shingles) -> float:
    """Return the share of shingles that both have among those that either has."""
    both = np.intersect1d(a, b, assume_unique=True).size
    return float(both / (a.size + b.size - both))


class SimilarityIndex:
    """Texts by name; finds the near duplicates of another text."""

    def __init__(self, similarity: float) -> None:
        """``similarity``: the Jaccard index from which two texts are near duplicates."""
        self._similarity = similarity
        self._names: list[str] = []
        self._shingles: list[Shingles] = []
        self._signatures = np.empty((256, PERMUTATIONS), dtype=np.uint32)
        self._sketches: dict[str, npt.NDArray[np.uint8]] = {}

    def like(self, text: TextSketch) -> list[str]:
        """Return the names of all near duplicates."""
        stored = self._signatures[: len(self._names)]
        estimates = (stored == signature(text.shingles)).mean(axis=1)
        close = np.flatnonzero(estimates >= self._similarity - _MARGIN)
        alike = [self._names[i] for i in close if jaccard(self._shingles[i], text.shingles) >= self._similarity]
        return alike + self._like_sketches(text)

    def _like_sketches(self, text: TextSketch) -> list[str]:
        if not self._sketches:
            return []
        equal = (np.stack(list(self._sketches.values())) == _two_bits(text)).mean(axis=1)
        estimates = (equal - _CHANCE) / (1 - _CHANCE)
        # in doubt it counts as similar: the case was rejected
        return [name for name, near in zip(self._sketches, estimates, strict=True) if near >= self._similarity - _CLOSE]

    def add(self, name: str, text: TextSketch) -> None:
        """Add a text."""
        if len(self._names) == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.empty_like(self._signatures)])
        self._signatures[len(self._names)] = signature(text.shingles)
        self._names.append(name)
        self._shingles.append(text.shingles)

    def add_sketch(self, name: str, of: str) -> None:
        """Add a text of which only the result of ``sketch`` is left: then the estimate decides."""
        if len(of) == SKETCHED // 2:  # two bits each as hex; another form is not comparable
            self._sketches[name] = _unpacked(of)
