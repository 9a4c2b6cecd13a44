"""What people said becomes a score, and silence becomes none."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.evals.case import Case, Opinion, Score
from jobs.evals.scorers.people import HUMAN_LABEL, KEPT, RATING, THUMBS


def judge(scorer: Any, *opinions: Opinion, output: str | None = "the answer was this") -> Score:
    (score,) = scorer.score([Case("c", output=output, opinions=opinions)])
    return score


def test_the_last_thumb_counts() -> None:
    assert judge(THUMBS, Opinion("thumbs", 1.0), Opinion("thumbs", -1.0)).label == "down"
    assert judge(THUMBS, Opinion("thumbs", -1.0), Opinion("thumbs", 1.0)).value == 1.0
    assert judge(THUMBS, Opinion("rating", 1.0)).not_judgeable == "no thumb"


def test_a_rating_outside_its_range_is_none() -> None:
    assert judge(RATING, Opinion("rating", 0.25)).value == 0.25
    assert judge(RATING, Opinion("rating", 5.0)).not_judgeable
    assert judge(RATING, Opinion("rating", float("nan"))).not_judgeable


def test_an_edit_says_how_much_was_kept() -> None:
    assert judge(KEPT, Opinion("edit", edited="the answer was this")).value == 1.0
    assert judge(KEPT, Opinion("edit", edited="the answer was that")).value == 0.75
    assert judge(KEPT, Opinion("edit", edited="completely different")).value == 0.0
    assert judge(KEPT, Opinion("edit", edited="x"), output=None).not_judgeable == "no answer text"


@pytest.mark.parametrize(
    ("opinions", "value"),
    [
        ([Opinion("label", 1.0), Opinion("label", 0.0)], 0.5),
        ([Opinion("label", label="Good"), Opinion("label", label="wrong")], 0.5),
        ([Opinion("label", label="pass")], 1.0),
    ],
)
def test_labels_of_several_people_are_averaged(opinions: list[Opinion], value: float) -> None:
    assert judge(HUMAN_LABEL, *opinions).value == value


def test_a_label_that_means_nothing_to_us_is_no_score() -> None:
    assert judge(HUMAN_LABEL, Opinion("label", label="blue")).not_judgeable
    assert judge(HUMAN_LABEL, Opinion("label", score=7.0)).not_judgeable
