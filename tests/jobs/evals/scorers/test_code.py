"""What each deterministic scorer says of answers that people would agree on."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.evals.case import Case, Context, Expectation, Message, Score
from jobs.evals.scorers import SCORERS, Scorer

BY_NAME: dict[str, Scorer] = {scorer.name: scorer for scorer in SCORERS}


def judge(name: str, **fields: Any) -> Score:
    (score,) = BY_NAME[name].score([Case("c", **fields)])
    return score


@pytest.mark.parametrize(
    ("output", "reference", "exact", "normalised"),
    [
        ("Paris", "Paris", 1.0, 1.0),
        ("paris.", "Paris", 0.0, 1.0),
        ("  The  answer:\n42 ", "the answer 42!", 0.0, 1.0),
        ("ﬁne", "fine", 0.0, 1.0),
        ("Lyon", "Paris", 0.0, 0.0),
        ("", "Paris", 0.0, 0.0),
    ],
)
def test_an_answer_matches_its_reference(output: str, reference: str, exact: float, normalised: float) -> None:
    assert judge("exact_match", output=output, reference=reference).value == exact
    assert judge("normalised_match", output=output, reference=reference).value == normalised


def test_no_reference_and_a_failed_call_are_not_judged() -> None:
    assert judge("exact_match", output="x").not_judgeable == "no reference"
    assert judge("exact_match", output="x", reference="x", status="error").not_judgeable == "the call ended as error"
    assert judge("exact_match", reference="x").not_judgeable == "no answer text"


def test_an_answer_contains_what_it_must_and_nothing_else() -> None:
    expect = Expectation(contains=("refund", "14 days"), excludes=("guarantee",))
    assert judge("contains", output="A Refund within 14 days.", expect=expect).value == 1.0
    partly = judge("contains", output="A refund, we guarantee it.", expect=expect)
    assert partly.value == pytest.approx(1 / 3)
    assert partly.explanation == "missing: 14 days; must not be there: guarantee"


def test_expressions_are_searched_and_a_broken_one_is_an_error() -> None:
    assert judge("regex", output="order A-17", expect=Expectation(regex=(r"[A-Z]-\d+",))).value == 1.0
    assert judge("regex", output="none", expect=Expectation(regex=(r"[A-Z]-\d+", "none"))).value == 0.5
    assert "cannot be compiled" in judge("regex", output="x", expect=Expectation(regex=("(",))).error


SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    ("output", "schema", "value", "label"),
    [
        ('{"city": "Paris"}', SCHEMA, 1.0, "valid"),
        ('{"city": 3}', SCHEMA, 0.0, "schema"),
        ("{}", SCHEMA, 0.0, "schema"),
        ('```json\n{"city": "Paris"}\n```', SCHEMA, 0.0, "not_json"),
        ('{"city": NaN}', None, 0.0, "not_json"),
        ("[" * 100_000, None, 0.0, "not_json"),
        ("[1, 2]", None, 1.0, "valid"),
        (" " * (1 << 20) + "1", None, 0.0, "too_long"),
    ],
)
def test_json_parses_and_keeps_its_schema(output: str, schema: Any, value: float, label: str) -> None:
    score = judge("json_valid", output=output, expect=Expectation(json=True, json_schema=schema))
    assert (score.value, score.label) == (value, label)


def test_a_schema_that_is_wrong_or_that_points_elsewhere_is_an_error_and_fetches_nothing() -> None:
    wrong = judge("json_valid", output="1", expect=Expectation(json_schema={"type": "nonsense"}))
    assert wrong.error.startswith("the JSON Schema is not valid")
    away = judge("json_valid", output="1", expect=Expectation(json_schema={"$ref": "http://127.0.0.1:9/schema"}))
    assert away.error.startswith("the JSON Schema cannot be applied")


@pytest.mark.parametrize(("output", "label"), [("x", "too_short"), ("x" * 5, "within"), ("x" * 11, "too_long")])
def test_a_length_is_within_its_limits(output: str, label: str) -> None:
    score = judge("length", output=output, expect=Expectation(min_chars=2, max_chars=10))
    assert (score.label, score.value) == (label, float(label == "within"))


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't assist with that request.", True),
        ("I\u2019m sorry, but I can\u2019t help with that.", True),
        ("I cannot fulfill your request. I'm just an AI.", True),
        ("I must decline.", True),
        ("Es tut mir leid, ich kann dir dabei nicht helfen.", True),
        ("Je ne peux pas vous aider avec cette demande.", True),
        ("Lo siento, pero no puedo ayudar con eso.", True),
        ("Sorry to hear that! Restart the router and try again.", False),
        ("You can't divide by zero, so the expression has no value.", False),
        ("The pump cannot provide more than 3 bar.", False),
        ("I can help you with that. First, open the settings.", False),
    ],
)
def test_a_refusal_shows_in_the_opening_of_the_answer(text: str, refused: bool) -> None:
    score = judge("answered", output=text)
    assert (score.value, score.label) == (float(not refused), "refused" if refused else "answered")


def test_what_the_event_says_of_a_refusal_counts_first() -> None:
    assert judge("answered", output="Sure!", refused=True).label == "refused"
    assert judge("answered", output="", finish_reason="content_filter").label == "refused"
    assert judge("answered", output=" ").not_judgeable == "no answer text"


GERMAN = "Wie komme ich am schnellsten vom Hauptbahnhof zum Flughafen, und was kostet das?"
ENGLISH = "Take the express train from platform four; it leaves every twenty minutes and costs nine euros."


def test_the_answer_is_in_the_language_of_the_question() -> None:
    assert judge("language", input_text=ENGLISH, output=ENGLISH).label == "same"
    other = judge("language", input_text=GERMAN, output=ENGLISH)
    assert (other.value, other.explanation) == (0.0, "en, not de")
    assert judge("language", input_text=GERMAN, output=ENGLISH, expect=Expectation(language="en")).value == 1.0
    assert judge("language", input_text="ok", output=ENGLISH).not_judgeable
    code = f"```python\n{'print(1)  # the quick brown fox' * 30}\n```"
    assert judge("language", input_text=GERMAN, output=code).not_judgeable


@pytest.mark.parametrize(("reason", "value"), [("stop", 1.0), ("end_turn", 1.0), ("length", 0.0), ("MAX_TOKENS", 0.0)])
def test_an_answer_that_was_cut_is_not_complete(reason: str, value: float) -> None:
    assert judge("complete", output="x", finish_reason=reason).value == value


def test_personal_data_counts_where_the_model_brought_it_in() -> None:
    assert judge("privacy", output="Write to bob@example.org").label == "email"
    given = (Message("user", "I am bob@example.org"),)
    assert judge("privacy", messages=given, output="Thank you, bob@example.org").value == 1.0
    chunk = (Context("d", "contact <EMAIL_1>"),)
    assert judge("privacy", contexts=chunk, output="Contact <EMAIL_1>.").value == 1.0
    leaked = judge("privacy", contexts=chunk, output="Contact <EMAIL_1> with <CARD_1> and sk-" + "a" * 24)
    assert (leaked.value, leaked.label, leaked.explanation) == (0.0, "card", "CARD, KEY")


def test_a_copy_of_the_prompt_is_not_original() -> None:
    words = " ".join(f"word{i}" for i in range(60))
    prompt = (Message("user", words),)
    assert judge("original", messages=prompt, output=words).value == 0.0
    assert judge("original", messages=prompt, output=" ".join(f"other{i}" for i in range(60))).value == 1.0
    half = judge("original", messages=prompt, output=words + " " + " ".join(f"other{i}" for i in range(60)))
    assert half.value == pytest.approx(0.5, abs=0.05)
    assert judge("original", messages=prompt, output="word1 word2").not_judgeable == "fewer than 20 words"
