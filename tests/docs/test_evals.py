"""What docs/how-to/evals.md shows works as it is written."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from jobs.evals.expect import Rules
from jobs.evals.judge.rubric import parse
from jobs.evals.scorers import INFORM_ONLY, SCORERS
from tailrace.settings.model import JudgeSettings
from tailrace_emitter.encode import Policy, encode
from tailrace_emitter.ids import new_id

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "evals.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """All blocks of ``language``, one after the other."""
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL))


def test_the_settings_of_a_judge_are_accepted() -> None:
    section = tomllib.loads(block("toml"))["judge"]
    assert JudgeSettings(**section).samples == 3


def test_the_rules_of_the_example_are_accepted() -> None:
    rules = Rules.read(tomllib.loads(block("toml"))["evals"]["expect"])
    row = {"app": "shop", "feature": "extract", "model": "m", "prompt_name": None, "prompt_version": None}
    expected = rules.of(row)
    assert (expected.max_chars, expected.excludes) == (2000, ("as an AI",))
    assert expected.json_schema == {"type": "object", "required": ["order_id"]}


def test_every_scorer_is_in_the_table() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE.partition("## What is scored")[2].partition("`bench")[0]))
    assert {scorer.name for scorer in SCORERS} <= named
    assert set(re.findall(r"\*`(\w+)`\*", PAGE)) == INFORM_ONLY


def test_the_rubric_is_whole() -> None:
    rubric = parse(block("yaml"), "docs/how-to/evals.md")
    assert rubric.name == "tone"
    assert set(yaml.safe_load(block("yaml"))) == set(type(rubric).model_fields)  # every key is shown


def test_the_example_of_a_score_makes_an_event() -> None:
    sent: list[dict[str, Any]] = []

    class Tailrace:
        @staticmethod
        def eval(name: str, **fields: Any) -> None:
            sent.append({"name": name, **fields})

    code = block("python").replace("import tailrace_emitter as tailrace", "")
    exec(code, {"tailrace": Tailrace, "call_id": new_id()})
    value = encode("eval", new_id(), 1_763_640_366_123_456_000, sent[0], Policy("a")).value
    assert b'"evaluator":{"kind":"human","name":"support team"}' in value
