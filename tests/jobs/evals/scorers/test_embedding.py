"""Scorers that use the embedding model, with the model that ships."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from jobs.evals.case import Case, Context
from jobs.evals.scorers import SCORERS, Embedding
from jobs.evals.scorers.groundedness import Groundedness, overlap, sentences, supports
from pipelines.drift.embed import EmbedConfig

BY_NAME = {scorer.name: scorer for scorer in SCORERS}
SOURCE = (
    "The Aurora 3 was released in March 2019. It has a battery of 4,200 mAh and weighs 180 grams. "
    "Customers may return it within 14 days of delivery."
)


def test_an_answer_that_says_what_the_texts_say_is_grounded_and_another_is_not() -> None:
    contexts = (Context("d", SOURCE),)
    true = Case("t", output="The Aurora 3 came out in March 2019. Its battery has 4,200 mAh.", contexts=contexts)
    other = Case("o", output="The hotel in Lisbon offers breakfast from 7. Dogs are welcome.", contexts=contexts)
    silent = Case("s", output="The Aurora 3 came out in March 2019.")
    good, bad, none = BY_NAME["groundedness"].score([true, other, silent])
    assert good.value is not None
    assert good.value > 0.8
    assert good.label == "grounded"
    assert bad.value is not None
    assert bad.value < 0.3
    assert bad.explanation.startswith("least supported: ")
    assert none.not_judgeable == "no retrieved text"


def test_similarity_and_relevance_tell_near_from_far() -> None:
    near = Case("n", input_text="How do I reset my password?", output="Open settings and choose reset password.")
    far = Case("f", input_text="How do I reset my password?", output="Boil the pasta for ten minutes.")
    close, apart = BY_NAME["relevance"].score([near, far])
    assert close.value is not None
    assert apart.value is not None
    assert close.value > apart.value + 0.2
    same = Case("r", output="Paris", reference="Paris")
    assert BY_NAME["similarity"].score([same])[0].value == pytest.approx(1.0, abs=1e-4)
    assert BY_NAME["similarity"].score([near])[0].not_judgeable == "no reference"


class Letters:
    """Vectors of letters: a small model that keeps the protocol."""

    model = "letters"

    def __init__(self, config: EmbedConfig) -> None:
        self.asked: list[list[str]] = []
        self.closed = False

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked.append(list(texts))
        rows = np.array([[text.count(c) + 0.01 for c in "abcdefgh"] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def close(self) -> None:
        self.closed = True


def test_a_text_is_embedded_once_and_the_model_is_made_at_the_first_text() -> None:
    made: list[Letters] = []

    def make(config: EmbedConfig) -> Letters:
        made.append(Letters(config))
        return made[-1]

    embedding = Embedding(make=make)
    assert embedding.vectors([]).shape == (0, 384)
    assert not made
    first = embedding.vectors(["aaa", "bbb", "aaa"])
    again = embedding.vectors(["bbb", "ccc\ud800"])
    assert made[0].asked == [["aaa", "bbb"], ["ccc?"]]
    assert np.array_equal(first[1], again[0])
    embedding.close()
    assert made[0].closed
    assert Groundedness(Embedding(EmbedConfig(model="/models/other"))).version != BY_NAME["groundedness"].version


def test_numbers_and_names_are_looked_up_in_the_source() -> None:
    assert overlap("It was released in 2019 by Aurora", "aurora, 2019") == 1.0
    assert overlap("It was released in 2020 by Aurora", "aurora, 2019") == 0.5
    assert overlap("nothing to look up", "aurora") is None
    vectors = np.eye(2, dtype=np.float32)
    support = supports(["plain words", "In 1999"], vectors, "plain words of 2019", vectors[:1])
    assert support[0] == 1.0
    assert support[1] == 0.0


def test_sentences_are_split_bounded_and_never_empty() -> None:
    assert sentences("One two. Three!\n\n- \n4 is a number?", 10) == ["One two.", "Three!", "4 is a number?"]
    assert len(sentences("Aa bb. " * 1000, 30)) == 30
    assert max(map(len, sentences("x" * 10_000, 5))) == 600
    assert sentences("...\n!!!", 5) == []
