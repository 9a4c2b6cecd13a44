"""Near-duplicates: what MinHash finds is what the Jaccard index says."""

from __future__ import annotations

import random

import numpy as np
import pytest

from jobs.golden.similar import PERMUTATIONS, Known, jaccard, shingles, signature, sketch

LONG = "please tell me how i can move my standing order from the old account to the new one before friday"


def like(a: str, b: str, similarity: float = 0.8) -> bool:
    known = Known(similarity)
    known.add("a", shingles(a))
    return known.like(shingles(b)) == ["a"]


@pytest.mark.parametrize(
    "other",
    [
        LONG,
        LONG.upper() + "!",
        "  " + LONG.replace(" ", "\n"),
        LONG.replace("friday", "monday"),
        LONG + " please",
    ],
)
def test_what_says_nearly_the_same_is_found(other):
    assert like(LONG, other)


@pytest.mark.parametrize(
    "other",
    [
        "",
        LONG.split(" account ", maxsplit=1)[0],
        LONG.replace("account", "card").replace("move", "cancel").replace("order", "loan"),
        " ".join(reversed(LONG.split())),
    ],
)
def test_what_says_something_else_is_not(other):
    assert not like(LONG, other)


def test_short_texts_are_compared_by_characters():
    assert like("reset my password", "reset my passwort")
    assert like("reset my password", "Reset my password?")
    assert not like("reset my password", "delete my account")
    assert not like("yes", "no")
    assert like("?!", "?!")


def test_texts_without_blanks_are_compared_by_characters_however_long_they_are():
    text = "请问我如何把旧账户的定期转账改到新账户并且在星期五之前完成" * 3
    assert like(text, text.replace("五", "六", 1))
    assert not like(text, "今天的天气很好我们去公园散步吧然后一起吃午饭怎么样呢朋友" * 3)


def test_the_estimate_is_close_to_the_index_and_nobody_above_the_threshold_is_missed():
    rng = random.Random(7)
    words = [f"word{i}" for i in range(400)]
    missed = 0
    for _ in range(200):
        text = rng.choices(words, k=120)
        other = list(text)
        for place in rng.sample(range(120), rng.randint(0, 8)):
            other[place] = rng.choice(words)
        a, b = shingles(" ".join(text)), shingles(" ".join(other))
        estimate = float((signature(a) == signature(b)).mean())
        assert abs(estimate - jaccard(a, b)) < 0.25
        missed += jaccard(a, b) >= 0.8 and not like(" ".join(text), " ".join(other))
    assert missed == 0


def test_a_sketch_tells_what_says_nearly_the_same_and_rather_one_too_many():
    rng = random.Random(9)
    words = [f"word{i}" for i in range(400)]
    missed = wrong = 0
    for _ in range(300):
        text = rng.choices(words, k=120)
        other = list(text)
        for place in rng.sample(range(120), rng.randint(0, 20)):
            other[place] = rng.choice(words)
        known = Known(0.8)
        known.add("before", shingles("something else that is not asked for at all here"))
        known.add_sketch("gone", sketch(" ".join(text)))
        of = shingles(" ".join(other))
        found, index = known.like(of), jaccard(shingles(" ".join(text)), of)
        missed += index >= 0.8 and found != ["gone"]
        wrong += index < 0.55 and found != []
    assert missed <= 6, "of 300, an estimate is so far off"
    assert wrong == 0
    assert len(sketch("")) == len(sketch(LONG)) == PERMUTATIONS * 8


def test_signatures_do_not_depend_on_slices_or_on_the_machine():
    long = " ".join(f"w{i}" for i in range(20_000))
    assert len(shingles(long)) == 19_998
    parts = [signature(part) for part in np.array_split(shingles(long), 7)]
    assert np.array_equal(signature(shingles(long)), np.minimum.reduce(parts))
    assert signature(shingles(long)).shape == (PERMUTATIONS,)
    assert [int(n) for n in signature(shingles(LONG))[:3]] == SIGNATURE


SIGNATURE = [62428172, 58147608, 133006667]
"""Of LONG: as it was when this was written."""


def test_many_texts_are_kept_apart():
    known = Known(0.8)
    for i in range(1000):
        known.add(
            str(i), shingles(f"question number {i} about topic {i * 7919} and thing {i * 104729} in town {i} now")
        )
    assert known.like(shingles("question number 5 about topic 39595 and thing 523645 in town 5 now")) == ["5"]


@pytest.mark.parametrize("text", ["\x00", "\ud800", "a\u0000b", "\u202e", " ", "\U0001f600" * 30])
def test_any_text_has_shingles(text):
    assert len(shingles(text)) >= 1
    signature(shingles(text))
