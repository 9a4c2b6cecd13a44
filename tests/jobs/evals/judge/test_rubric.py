"""Rubrics: what is accepted, and that every error names the file, the place and the problem."""

from __future__ import annotations

import pytest

from jobs.evals.judge.build import JudgeOptions, rubrics_of
from jobs.evals.judge.rubric import RubricError, load, parse

GOOD = """
name: helpful
instructions: Does the answer do what the user asked for?
scale: {min: 1, max: 5}
anchors: {1: useless, 5: solves it}
pass_at: 4
examples:
  - {question: "2+2?", answer: "4", score: 5, reason: correct}
"""


def test_a_rubric_is_read_whole():
    rubric = parse(GOOD, "helpful.yaml")
    assert (rubric.name, rubric.scale.max, rubric.threshold, rubric.examples[0].answer) == ("helpful", 5, 4, "4")
    assert [rubric.normalised(s) for s in (1, 3, 5)] == [0.0, 0.5, 1.0]
    assert [rubric.passes(s) for s in (3.5, 4, 5)] == [False, True, True]


def test_lower_may_be_better():
    rubric = parse("name: toxic\ninstructions: How toxic is it?\nscale: {min: 0, max: 10}\nlower_is_better: true", "t")
    assert [rubric.normalised(s) for s in (0, 10)] == [1.0, 0.0]
    assert (rubric.threshold, rubric.passes(5), rubric.passes(6)) == (5, True, False)


@pytest.mark.parametrize(
    ("text", "place", "problem"),
    [
        ("name: x\n  instructions: [", ", line 2", "not YAML"),
        ("- a list", "", "must be one mapping"),
        ("", "", "must be one mapping"),
        ("name: helpful", ", instructions", "Field required"),
        ("name: Not A Name\ninstructions: long enough it is", ", name", "match pattern"),
        (GOOD + "scael: {min: 1}", ", scael", "Extra inputs"),
        (GOOD.replace("score: 5", "score: 9"), "", "outside of the scale 1 to 5: examples[0].score is 9"),
        (GOOD.replace("pass_at: 4", "pass_at: 7"), "", "pass_at is 7"),
        (GOOD.replace("max: 5", "max: 1"), "", "max must be 1 to 100 above min"),
        (GOOD.replace("score: 5", "score: high"), ", examples[0].score", "valid integer"),
        (GOOD + "when: 2026-13-45", "", ""),
    ],
)
def test_a_malformed_rubric_names_file_place_and_problem(text, place, problem):
    with pytest.raises(RubricError) as caught:
        parse(text, "rubrics/bad.yaml")
    assert f"rubric rubrics/bad.yaml{place}" in str(caught.value)
    assert problem in str(caught.value)


def test_files_that_cannot_be_read_are_errors_of_one_line(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    for path, problem in (
        (tmp_path / "none.yaml", "No such file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin.yaml", "not UTF-8"),
    ):
        with pytest.raises(RubricError, match=problem) as caught:
            load(path)
        assert "\n" not in str(caught.value)


def test_the_digest_follows_what_is_asked_and_not_the_layout():
    assert parse(GOOD, "a").digest == parse(GOOD.replace("\n", "\n\n"), "b").digest
    assert parse(GOOD, "a").digest != parse(GOOD.replace("useless", "bad"), "a").digest


def test_the_shipped_rubrics_are_whole_and_their_examples_fit():
    found = {r.name: r for r in rubrics_of(JudgeOptions("m", "http://x"))}
    assert set(found) == {"task_success", "grounded", "safe"}
    assert found["grounded"].needs == ("contexts",)
    assert (found["safe"].normalised(0), found["safe"].passes(1), found["safe"].passes(2)) == (1.0, True, False)
    assert found["task_success"].passes(4)


def test_two_rubrics_of_one_name_are_refused(tmp_path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(GOOD)
    with pytest.raises(RubricError, match="another rubric is named helpful"):
        rubrics_of(JudgeOptions("m", "http://x", (tmp_path / "a.yaml", tmp_path / "b.yaml")))
