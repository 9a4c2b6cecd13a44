"""The golden messages: what a person reads of each measure."""

from __future__ import annotations

import pytest

from jobs.live_quality.alerts import title
from jobs.live_quality.judge import Verdict
from jobs.live_quality.labels import Series


def verdict(series, *, bad, labels, expected):
    counts = {"last_bad": 0.0, "last_labels": 0, "recent_bad": bad, "recent": labels}
    return Verdict(series, expected, 1830, 20.0, 12.0, 0, bad, labels, **counts)


@pytest.mark.parametrize(
    ("series", "said"),
    [
        (
            Series("bot", "thumbs_down", None, None, "prompt_version", "18"),
            "app bot, prompt_version 18: thumbs down in 31.2% (25.8 to 37.2 %) of 250 thumbs, usually 12.4% of 1,830",
        ),
        (
            Series("bot", "edited", None, None),
            "app bot: 31.2% (25.8 to 37.2 %) of 250 answers edited before they were used, usually 12.4% of 1,830",
        ),
        (
            Series("bot", "score", "helpful", "2", "model", "gpt-4o"),
            "app bot, model gpt-4o: helpful scores 0.69 (0.63 to 0.74) over 250 labels, usually 0.88 over 1,830",
        ),
        (
            Series("bot", "low_top_score", "kb", None),
            "app bot: top retrieval score low in 31.2% (25.8 to 37.2 %) of 250 retrievals of index kb, "
            "usually 12.4% of 1,830",
        ),
        (
            Series("bot", "uncited", None, None),
            "app bot: no document cited in 31.2% (25.8 to 37.2 %) of 250 answers with documents, "
            "usually 12.4% of 1,830",
        ),
    ],
)
def test_a_title_says_who_what_how_much_and_against_what(series, said):
    found = verdict(series, bad=78.0, labels=250, expected=0.124)
    assert title(found) == said
    assert found.severity == "critical"
    assert verdict(series, bad=60.0, labels=250, expected=0.124).severity == "warning"
