"""Near-duplicates: what MinHash finds is what the Jaccard index says."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest

from jobs.golden.similar import SKETCHED, SimilarityIndex, jaccard, read, signature, sketch

SHORT = "mrs canary of birdcage lane has a rash"
LONG = "please tell me how i can move my standing order from the old account to the new one before friday"


def shingles(text: str) -> npt.NDArray[np.uint64]:
    return read(text).shingles


def like(a: str, b: str, similarity: float = 0.8) -> bool:
    known = SimilarityIndex(similarity)
    known.add("a", read(a))
    return known.like(read(b)) == ["a"]


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
        known = SimilarityIndex(0.8)
        known.add("before", read("something else that is not asked for at all here"))
        known.add_sketch("gone", sketch(" ".join(text)))
        of = read(" ".join(other))
        found, index = known.like(of), jaccard(shingles(" ".join(text)), of.shingles)
        missed += index >= 0.8 and found != ["gone"]
        wrong += index < 0.6 and found != []
    assert missed <= 3, "of 300, an estimate is so far off"
    assert wrong == 0
    assert len(sketch("")) == len(sketch(LONG)) == SKETCHED // 8 * 4


@pytest.mark.parametrize("text", [SHORT, "reset my password", "请问我如何把旧账户的定期转账改到新账户"])
def test_a_short_text_cannot_be_read_from_its_sketch_with_a_dictionary_of_shingles(text: str) -> None:
    """Of all runs of three characters those that were there are no likelier than others."""
    there = sorted({text[i : i + 3] for i in range(len(text) - 2)})
    letters = sorted({*"abcdefghijklmnopqrstuvwxyz ", *text})
    others = ["".join(random.Random(i).choices(letters, k=3)) for i in range(3_000)]
    told = values(sketch(text))
    fits = np.array([likely(run, told, len(there)) for run in (*there, *others)])
    best = np.argsort(-fits)[: len(there)]
    assert sum(best < len(there)) <= 0.1 * len(there)
    whole = SimilarityIndex(0.8)
    whole.add_sketch("gone", sketch(text))
    assert whole.like(read(text.upper() + " !")) == ["gone"], "a guess of all of it can be checked"
    assert whole.like(read(text + " b")) == []


def values(of: str) -> list[int]:
    return [byte >> shift & 3 for byte in bytes.fromhex(of) for shift in (0, 2, 4, 6)]


def likely(run: str, told: list[int], runs: int) -> float:
    """Return the logarithm of how much likelier ``told`` is where ``run`` is in a text of so many."""
    least = signature(shingles(run), SKETCHED).astype(np.float64)
    first = (1 - least / 2**32) ** (runs - 1)  # that no other is less
    equal = least.astype(np.int64) % 4 == told
    return float(
        np.log(np.where(equal, first + (1 - first) / 4, (1 - first) * 3 / 4) / np.where(equal, 0.25, 0.75)).sum()
    )


def test_a_long_text_without_blanks_has_a_sketch_of_its_shingles():
    text = "".join(chr(0x4E00 + random.Random(3).randrange(3_000) + i) for i in range(200))
    known = SimilarityIndex(0.8)
    known.add_sketch("gone", sketch(text))
    assert known.like(read(text[:100] + "x" + text[101:])) == ["gone"]
    assert known.like(read(text[::-1])) == []


def test_texts_and_sketches_are_told_together():
    known = SimilarityIndex(0.8)
    known.add("a", read(LONG))
    known.add_sketch("b", sketch(LONG))
    assert known.like(read(LONG + " please")) == ["a", "b"]


def test_signatures_do_not_depend_on_slices_or_on_the_machine():
    long = " ".join(f"w{i}" for i in range(20_000))
    assert len(shingles(long)) == 19_998
    parts = [signature(part) for part in np.array_split(shingles(long), 7)]
    assert np.array_equal(signature(shingles(long)), np.minimum.reduce(parts))
    assert np.array_equal(signature(shingles(long)), signature(shingles(long), SKETCHED)[:64])
    assert [int(n) for n in signature(shingles(LONG))[:3]] == SIGNATURE


SIGNATURE = [62428172, 58147608, 133006667]
"""Of LONG: as it was when this was written."""


def test_a_sketch_that_is_stored_stays_what_it_is():
    assert sketch(LONG)[:16] == SKETCH


SKETCH = "f0999f45fd7390d6"
"""The same."""


def test_many_texts_are_kept_apart():
    known = SimilarityIndex(0.8)
    for i in range(1000):
        known.add(str(i), read(f"question number {i} about topic {i * 7919} and thing {i * 104729} in town {i} now"))
    assert known.like(read("question number 5 about topic 39595 and thing 523645 in town 5 now")) == ["5"]


@pytest.mark.parametrize("text", ["\x00", "\ud800", "a\u0000b", "\u202e", " ", "\U0001f600" * 30])
def test_any_text_has_shingles(text):
    assert len(shingles(text)) >= 1
    signature(shingles(text))
