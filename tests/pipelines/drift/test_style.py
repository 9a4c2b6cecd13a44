from __future__ import annotations

import numpy as np
import pytest

from pipelines.drift.style import FEATURES, LEVELS, WIDTH, measure, positions, styles


def values(text: str) -> dict[str, float]:
    return dict(zip(FEATURES, measure(text), strict=True))


def test_the_numbers_of_a_short_answer_are_those_that_one_counts() -> None:
    text = "**Plan**\n\n- Eat, I say.\n- Is it you?\n1. A (b): 42"
    found = values(text)
    assert found["length"] == pytest.approx(np.log2(len(text) + 1))
    assert (found["bullets"], found["numbered"], found["markup"]) == (2, 1, 1)
    assert (found["lines"], found["paragraphs"]) == (4, 1)
    assert found["commas"] == pytest.approx(100 / len(text))
    assert found["questions"] == pytest.approx(100 / len(text))
    assert found["digits"] == pytest.approx(3 / len(text))
    # plan eat i say is it you a b
    assert found["self"] == found["reader"] == found["articles"] == pytest.approx(100 / 9)
    assert found["vocabulary"] == 1.0
    assert found["foreign"] == 0.0


def test_a_value_comes_back_from_its_position() -> None:
    for feature in FEATURES.values():
        value = 0.8 * feature.high if not feature.half else 3 * feature.half
        back = feature.restore(feature.squash(value))
        assert back == pytest.approx(2**value - 1 if feature.is_log else value)


@pytest.mark.parametrize("text", ["", " ", "\0\ud800", "a" * 100_000, "?!" * 3000, "\n" * 5000, "\u0661\u00b2\u00c5"])
def test_any_text_has_a_style(text: str) -> None:
    vectors, scales = styles([text])
    assert vectors.shape == (1, WIDTH)
    assert vectors.min() >= 0
    assert scales[0] == pytest.approx(1 / LEVELS)
    assert np.isfinite(positions(vectors)).all()


def test_no_text_is_no_row() -> None:
    vectors, scales = styles([])
    assert vectors.shape == (0, WIDTH)
    assert len(scales) == 0
