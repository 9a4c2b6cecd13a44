"""Rules of the settings become what an answer must be, and a wrong one is refused before anything is scored."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.evals.case import NOTHING_EXPECTED, Case
from jobs.evals.expect import NEED_RULES, Rules
from jobs.evals.scorers import SCORERS
from schemas.errors import SettingsError

ROW = {"app": "bot", "feature": "extract", "model": "gpt-4o", "prompt_name": None, "prompt_version": None}


def test_rules_that_fit_a_call_add_up_and_others_do_not() -> None:
    rules = Rules.read(
        [
            {"app": "bot", "max_chars": 400},
            {"app": "bot", "feature": "extract", "json_schema": {"type": "object"}, "contains": ["id"]},
            {"app": "shop", "language": "de"},
        ]
    )
    found = rules.of(ROW)
    assert (found.max_chars, found.contains, found.json_schema) == (400, ("id",), {"type": "object"})
    assert found.language is None
    assert rules.of({**ROW, "app": "other"}) == NOTHING_EXPECTED


def test_other_rules_are_another_series_of_the_scorers_that_judge_by_them() -> None:
    first, second = (Rules.read([{"max_chars": most}]).applied_to(SCORERS) for most in (100, 200))
    changed = {a.name for a, b in zip(first, second, strict=True) if a.version != b.version}
    assert changed == set(NEED_RULES)
    length = next(scorer for scorer in first if scorer.name == "length")
    expect = Rules.read([{"max_chars": 3}]).of(ROW)
    assert length.score([Case("c", output="long", expect=expect)])[0].label == "too_long"


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ({"contain": ["x"]}, r"evals.expect\[1\]: it has no field 'contain'"),
        ({"contains": "x"}, "contains is not a list of text"),
        ({"contains": [1]}, "contains is not a list of text"),
        ({"max_chars": True}, "max_chars is not of type int"),
        ({"json": "yes"}, "json is not of type bool"),
        ({"regex": ["("]}, "cannot be compiled"),
        ({"json_schema": {"type": "nonsense"}}, "the JSON Schema is not valid"),
    ],
)
def test_a_wrong_rule_is_named(rule: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        Rules.read([rule])
