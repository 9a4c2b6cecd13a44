"""The protocol of a text signal: a cheap test of one text, which runs on every sampled call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Side = Literal["input", "output", "document"]
Scores = NDArray[np.float64]
"""(n,) in [0, 1]; 1 = the signal is surely there."""
Sketches = NDArray[np.uint32]
"""(n, k): what is kept of n texts."""


class Text(NamedTuple):
    """One text of a call."""

    text: str
    given: str = ""
    """Of an output: what the call was given, which is its input and its retrieved texts."""


class Signal(Protocol):
    """Scores texts of one side. Pure and bounded: no text makes it raise, and none takes long.

    Texts of strangers are only read. The score of a text is the same in every batch.
    """

    name: ClassVar[str]
    """Its name in alerts, settings and the lake."""
    side: ClassVar[Side]
    version: ClassVar[int]
    """Grows with every change of what is scored; the share before and after is of two different tests."""
    source: ClassVar[str]
    """Where the method comes from."""
    threshold: ClassVar[float]
    """Score from which a text counts as a hit."""
    on: ClassVar[bool]
    """By default: only where ``bench/text_signals.py`` measures an AUROC of 0.75 or more on held-out texts."""

    def score(self, texts: Sequence[Text]) -> Scores:
        """Return a score per text, in their order."""


@runtime_checkable
class Comparing(Protocol):
    """A signal that compares a text with those before it. ``score`` does so within the texts that it is given."""

    name: ClassVar[str]
    memory: ClassVar[int]
    """Texts before it that a text is compared with, at most."""

    def sketches(self, texts: Sequence[Text]) -> Sketches:
        """Return what is to be kept of each text."""

    def nearest(self, sketches: Sketches, earlier: Sketches) -> Scores:
        """Return, for each sketch, its likeness to the most similar of ``earlier`` and of the sketches before it."""
