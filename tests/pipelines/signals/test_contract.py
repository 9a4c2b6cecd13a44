"""What every text signal promises, over SIGNALS."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.signals import SIGNALS, Comparing, Signal, Text, chosen
from schemas.errors import SettingsError

each = pytest.mark.parametrize("signal", SIGNALS, ids=lambda s: s.name)
PROSE = (
    "The harbour was quiet in the early morning. A few boats came in, and the men on the pier waited for the catch. "
    "Nobody spoke. When the first crate was on land, the buyers began to look at the fish and to name their prices."
)
HOSTILE = [
    "",
    " ",
    "\0\ufffd\ud800 ",
    "a" * 100_000,
    "the " * 20_000,
    "<b>'); DROP TABLE calls; --</b> {{7*7}} %s",
    "日本語の文章です。" * 500,
    "\n".join(["(" * 400, "[" * 400]) * 10,
    "I cannot " * 5_000,
    "1" * 50_000,
    "@".join(["a"] * 5_000),
]
TEXTS = [*(Text(text) for text in HOSTILE), Text(PROSE, "Tell me a story."), Text(PROSE, HOSTILE[3])]


@each
def test_scores_are_within_their_range_for_any_text(signal: Signal) -> None:
    scores = signal.score(TEXTS)
    assert scores.shape == (len(TEXTS),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert ((scores >= 0) & (scores <= 1)).all()


@each
def test_a_score_does_not_depend_on_the_batch(signal: Signal) -> None:
    whole = signal.score(TEXTS)
    if not isinstance(signal, Comparing):
        assert np.array_equal(whole, np.concatenate([signal.score([text]) for text in TEXTS]))
        return
    sketches = signal.sketches(TEXTS)
    parts = [signal.nearest(sketches[i : i + 1], sketches[:i]) for i in range(len(TEXTS))]
    assert np.array_equal(whole, np.concatenate(parts))


@each
def test_no_text_gives_no_score(signal: Signal) -> None:
    assert signal.score([]).shape == (0,)


@each
def test_ordinary_prose_is_no_hit(signal: Signal) -> None:
    assert signal.score([Text(PROSE, "Tell me a story about the harbour.")])[0] < signal.threshold


@each
def test_it_says_where_its_method_comes_from(signal: Signal) -> None:
    assert signal.source
    assert signal.version >= 1
    assert signal.side in ("input", "output", "document")
    assert 0 < signal.threshold <= 1


def test_names_are_different_and_choose_signals() -> None:
    names = [signal.name for signal in SIGNALS]
    assert len(set(names)) == len(names)
    assert chosen(names[::-1]) == SIGNALS[::-1]
    assert chosen([]) == ()
    assert chosen(None) == tuple(signal for signal in SIGNALS if signal.on)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="no signal 'refusals'; use gibberish, near_duplicate, refusal"):
        chosen(["refusals"])
