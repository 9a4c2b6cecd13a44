"""Metrics of RAGAS and DeepEval: what every adapter keeps, and the real libraries where they are installed."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobs.evals.case import Case, Context
from jobs.evals.judge.endpoint import JudgeError, Question, Reply
from jobs.evals.scorers import deepeval_metrics, ragas_metrics
from jobs.evals.scorers.library import (
    Asker,
    LibraryMissingError,
    LibraryScorer,
    UnreadableReplyError,
    installed,
    strict,
)

CASE = Case("c", input_text="When?", output="In 2019.", contexts=(Context("d", "It came out in March 2019."),))


class Says:
    """An endpoint that replies with one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[Question] = []

    def ask(self, question: Question) -> Reply:
        self.asked.append(question)
        return Reply(self.text, Decimal(0))


class Filled(Says):
    """An endpoint that fills the schema which it is sent: all that is said is supported."""

    def ask(self, question: Question) -> Reply:
        self.text = json.dumps(self._value(question.schema, question.schema))
        return super().ask(question)

    def _value(self, part: Any, whole: Any) -> Any:
        if "$ref" in part:
            return self._value(whole["$defs"][part["$ref"].rpartition("/")[2]], whole)
        if "anyOf" in part:
            return self._value(part["anyOf"][0], whole)
        if part["type"] == "object":
            return {name: self._value(each, whole) for name, each in part["properties"].items()}
        if part["type"] == "array":
            return [self._value(part["items"], whole)]
        return part["enum"][0] if "enum" in part else {"string": "yes", "integer": 1, "boolean": True}[part["type"]]


class Verdict(BaseModel):
    verdict: int
    reason: str = ""


def test_a_prompt_is_asked_with_its_schema_and_the_reply_is_read_strictly() -> None:
    endpoint = Says('```json\n{"verdict": 1, "reason": "it says so"}\n```')
    assert Asker(endpoint)("Is it so?", Verdict) == Verdict(verdict=1, reason="it says so")
    (question,) = endpoint.asked
    assert question.messages == [{"role": "user", "content": "Is it so?"}]
    assert question.schema["required"] == ["verdict", "reason"]
    assert question.schema["additionalProperties"] is False
    assert "default" not in question.schema["properties"]["reason"]
    for text in ("yes", '{"verdict": "maybe"}', "", "[" * 100_000):
        with pytest.raises(UnreadableReplyError, match="no Verdict"):
            Asker(Says(text))("?", Verdict)
    assert strict([{"properties": {"a": {}}}])[0]["required"] == ["a"]


def scorer(measure: Any, **options: Any) -> LibraryScorer:
    return LibraryScorer("library.metric", measure, version="1", model="m", **options)


def test_a_case_that_the_metric_cannot_judge_is_not_sent() -> None:
    asked: list[str] = []

    def measure(case: Case) -> float:
        asked.append(case.call_id)
        return 0.75

    silent = Case("s", input_text="q", output="a")
    found = scorer(measure, needs_contexts=True).score([CASE, silent, Case("n"), Case("e", output="a", status="error")])
    assert asked == ["c"]
    assert (found[0].value, found[0].label) == (0.75, "pass")
    assert found[1].not_judgeable == "no retrieved text"
    assert all(score.not_judgeable for score in found[1:])


def test_what_a_library_says_becomes_one_score_whatever_it_says() -> None:
    def failing(case: Case) -> float:
        raise JudgeError("spend_limit", "5 of 5 USD are spent")

    def broken(case: Case) -> float:
        raise KeyError("statements")

    assert scorer(failing).score([CASE])[0].error == "spend_limit: 5 of 5 USD are spent"
    assert scorer(broken).score([CASE])[0].error == "library: KeyError: 'statements'"
    assert scorer(lambda case: float("nan")).score([CASE])[0].not_judgeable
    assert scorer(lambda case: 0.25, inverted=True).score([CASE])[0].value == 0.75
    assert scorer(lambda case: 1.0000001).score([CASE])[0].value == 1.0
    assert scorer(broken).version != LibraryScorer("library.metric", broken, version="2", model="m").version


def test_a_missing_library_is_named_with_the_way_to_install_it() -> None:
    with pytest.raises(LibraryMissingError, match=r"needs the package no_such_package.*run `uv pip install x`"):
        installed("ragas.faithfulness", "no_such_package", "uv pip install x")
    assert installed("judge", "openai", "")


def test_the_extras_are_those_that_the_messages_name_and_none_is_in_the_lock() -> None:
    root = Path(__file__).parents[4]
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) == {"ragas", "deepeval"}
    for name, module in (("ragas", ragas_metrics), ("deepeval", deepeval_metrics)):
        assert f"tailrace[{name}]" in module.INSTALL
        assert all("<" in requirement for requirement in extras[name]), "tested versions only"
    locked = {line.split("==")[0] for line in (root / "requirements.lock").read_text().splitlines()}
    assert not locked & {"ragas", "deepeval", "langchain-community"}


@pytest.mark.skipif(
    importlib.util.find_spec("ragas") is None, reason="RAGAS is not installed; see ragas_metrics.INSTALL"
)
@pytest.mark.parametrize("name", ragas_metrics.METRICS)
def test_the_real_ragas_scores_a_case(name: str) -> None:
    (score,) = ragas_metrics.ragas_scorer(name, Filled(""), "m").score([CASE])
    assert score.value == pytest.approx(1.0)


@pytest.mark.skipif(
    importlib.util.find_spec("deepeval") is None, reason="DeepEval is not installed; see deepeval_metrics.INSTALL"
)
@pytest.mark.parametrize("name", deepeval_metrics.METRICS)
def test_the_real_deepeval_scores_a_case(name: str) -> None:
    (score,) = deepeval_metrics.deepeval_scorer(name, Filled(""), "m").score([CASE])
    assert score.value in (0.0, 1.0)
