"""Text signals: cheap tests of sampled texts, whose shares are judged like the share of errors.

A new signal is a file here, its test, and a line in ``SIGNALS``; ``bench/text_signals.py`` needs texts that have it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.signals.attack import Attack
from pipelines.signals.base import Comparing, Scores, Side, Signal, Sketches, Text
from pipelines.signals.gibberish import Gibberish
from pipelines.signals.injected import Injected
from pipelines.signals.near_duplicate import NearDuplicate
from pipelines.signals.personal import Personal
from pipelines.signals.refusal import Refusal
from schemas.errors import SettingsError

SIGNALS: tuple[Signal, ...] = (
    Gibberish(),
    NearDuplicate(),
    Refusal(),
    Attack(),
    Injected(),
    Personal(),
)


def chosen(names: Sequence[str] | None) -> tuple[Signal, ...]:
    """Return the signals of these names; None: those that are on by default.

    Raises:
        SettingsError: there is no signal of a name.
    """
    if names is None:
        return tuple(signal for signal in SIGNALS if signal.on)
    known = {signal.name: signal for signal in SIGNALS}
    for name in names:
        if name not in known:
            raise SettingsError("TAILRACE_METER__SIGNALS", f"there is no signal {name!r}", f"use {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(names))


__all__ = ["SIGNALS", "Comparing", "Scores", "Side", "Signal", "Sketches", "Text", "chosen"]
