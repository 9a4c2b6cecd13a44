"""The file of allowed pairs: what it allows, and what is refused of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobs.novelty.pairs import read_pairs, refused
from schemas.errors import SettingsError

FILE = """
- {prompt: answer, version: "18", models: [gpt-4o, gpt-4o-mini]}
- {prompt: answer, version: 17, models: [gpt-4o]}
- {prompt: rewrite, models: [gpt-4o-mini]}
- {prompt: rewrite, models: [gpt-4o], app: shop}
"""
AT = datetime(2026, 11, 18, 12, tzinfo=UTC)


@pytest.fixture
def pairs(tmp_path):
    file = tmp_path / "pairs.yaml"
    file.write_text(FILE)
    return read_pairs(file)


@pytest.mark.parametrize(
    ("app", "prompt", "version", "models"),
    [
        ("bot", "answer", "18", {"gpt-4o", "gpt-4o-mini"}),
        ("bot", "answer", "17", {"gpt-4o"}),
        ("bot", "answer", "19", set()),
        ("bot", "rewrite", "3", {"gpt-4o-mini"}),
        ("shop", "rewrite", None, {"gpt-4o-mini", "gpt-4o"}),
        ("bot", "other", "1", None),
    ],
)
def test_a_version_may_run_on_what_its_line_names(pairs, app, prompt, version, models):
    assert pairs.models(app, prompt, version) == models


def row(version, model, answered=None, calls=1, prompt="answer"):
    names = {"app": "bot", "prompt_name": prompt, "prompt_version": version}
    return {**names, "model": model, "response_model": answered, "first": AT, "calls": calls}


def test_a_prompt_gives_one_skew_with_its_pairs_and_an_allowed_answer_counts(pairs):
    rows = [
        row("18", "gpt-4o"),
        row("18", "auto", "gpt-4o"),
        row("17", "gpt-4o-mini", calls=5),
        row("17", "o3", "o3-2026", calls=7),
        row("17", "o3", "o3-2025", calls=2),
        row("1", "anything", prompt="unknown"),
    ]
    (skew,) = refused(rows, pairs)
    assert (skew.series, skew.calls) == ({"app": "bot", "prompt_name": "answer"}, 14)
    assert skew.pairs == {("17", "o3"): 9, ("17", "gpt-4o-mini"): 5}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prompt: answer", "holds no list"),
        ("- {prompt: answer}", "entry 1 is not an allowed pair"),
        ("- {prompt: answer, models: gpt-4o}", "models is no list of names"),
        ("- {prompt: answer, models: []}", "models is no list of names"),
        ("- {prompt: [1], models: [a]}", "are texts"),
        ("- {prompt: a, models: [a], modles: [b]}", "is not an allowed pair"),
        ("- [", "cannot read"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_entry(tmp_path, text, problem):
    file = tmp_path / "pairs.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"novelty\.allowed_pairs") as refusal:
        read_pairs(file)
    assert problem in str(refusal.value)
    assert str(file) in str(refusal.value)


def test_without_a_file_everything_is_allowed():
    assert read_pairs(None).models("bot", "answer", "1") is None
