"""Exports: the shapes that other tools read, and no text in them that those would run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.golden import openai, promptfoo
from jobs.golden.cases import KINDS

CASE: dict[str, Any] = {
    "case_id": "0123456789abcdef",
    "call_id": "00000000-0000-4000-8000-000000000001",
    "app": "bot",
    "feature": None,
    "model": "gpt-4o",
    "prompt_name": "answer",
    "prompt_version": "3",
    "reasons": ["edited", "refused"],
    "system_text": "be kind",
    "messages": [{"role": "user", "text": "hi"}, {"role": "assistant", "text": "ho"}, {"role": None, "text": "why?"}],
    "input_text": "why?",
    "output_text": "no",
    "expected": "because",
    "expected_from": "edit",
    "variables": '{"name":"Ann","items":["a","b"],"input":"not ours","_conversation":"x","__proto__":"x","n":3}',
}


def test_promptfoo_gets_variables_checks_and_where_it_is_from():
    test = promptfoo(CASE)
    assert set(test) == {"vars", "assert", "metadata"}
    assert test["vars"] == {
        "name": "Ann",
        "items": '["a", "b"]',
        "n": 3,
        "input": "why?",
        "system": "be kind",
        "messages": json.dumps(openai(CASE)["input"]),
    }
    assert test["assert"] == [{"type": "similar", "value": "because", "threshold": 0.8}, {"type": "not-is-refusal"}]
    assert test["metadata"]["case_id"] == CASE["case_id"]
    assert test["metadata"]["reasons"] == ["edited", "refused"]
    cut = promptfoo({**CASE, "reasons": ["truncated"], "expected": None})
    assert cut["assert"] == [{"type": "finish-reason", "value": "stop"}]


def test_a_rubric_is_judged_by_promptfoo_and_a_key_of_openais_sample():
    test = promptfoo({**CASE, "reasons": ["edited"], "expected": None, "rubric": "names {{city}}"})
    assert test["assert"] == [{"type": "llm-rubric", "value": "names {\u2060{city}}"}]
    assert openai({**CASE, "rubric": "r"})["rubric"] == "r"
    assert "rubric" not in openai(CASE)


DOCUMENTED = {
    "case": {"description", "vars", "assert", "metadata", "options", "threshold", "provider"},
    "assertion": {"type", "value", "threshold", "weight", "metric", "config", "provider", "transform", "rubricPrompt"},
    "type": {"equals", "contains", "regex", "is-json", "is-refusal", "similar", "finish-reason", "llm-rubric"},
}
"""Keys and types of https://www.promptfoo.dev/docs/configuration/reference/ and .../expected-outputs/."""


@pytest.mark.parametrize(
    ("reasons", "checks"),
    [
        (["refused"], [{"type": "not-is-refusal"}]),
        (["truncated"], [{"type": "finish-reason", "value": "stop"}]),
        (["low_score:valid_json"], [{"type": "is-json"}]),
        (["error"], [{"type": "regex", "value": r"\S"}]),
        (["refused", "truncated"], [{"type": "not-is-refusal"}, {"type": "finish-reason", "value": "stop"}]),
    ],
)
def test_a_case_without_an_expected_answer_gets_the_assertion_that_its_reason_implies(reasons, checks):
    test = promptfoo({**CASE, "reasons": reasons, "expected": None})
    assert test["assert"] == checks
    assert "informative" not in test["metadata"]


@pytest.mark.parametrize(
    "reason", ["thumbs_down", "low_rating", "edited", "guardrail", "blocked", "low_score:relevance", "drift"]
)
def test_where_nothing_follows_from_the_reason_the_case_is_marked_informative_and_fails_nothing(reason):
    for output in ("no", None, "{{x}}"):
        test = promptfoo({**CASE, "reasons": [reason], "expected": None, "output_text": output})
        assert test["metadata"]["informative"] is True
        (check,) = test["assert"]
        assert (check["type"], check["weight"]) == ("not-equals", 0)
        assert check["value"].replace("\u2060", "") == (output or "")


def test_every_kind_of_reason_gives_keys_and_types_that_promptfoo_documents():
    for reason in (*KINDS, "low_score:json", "low_score:x"):
        for expected in (None, "because"):
            test = json.loads(json.dumps(promptfoo({**CASE, "reasons": [reason], "expected": expected})))
            assert set(test) <= DOCUMENTED["case"]
            assert test["assert"]
            for check in test["assert"]:
                assert set(check) <= DOCUMENTED["assertion"]
                assert check["type"].removeprefix("not-") in DOCUMENTED["type"]


def test_openai_gets_messages_and_the_answer_or_null():
    assert openai(CASE) == {
        "input": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "ho"},
            {"role": "user", "content": "why?"},
        ],
        "ideal": "because",
    }
    unpad = openai({**CASE, "messages": None, "system_text": None, "expected": None})
    assert unpad == {"input": [{"role": "user", "content": "why?"}], "ideal": None}
    own = [{"role": "system", "text": "mine"}, {"role": "user", "text": "why?"}]
    assert [m["content"] for m in openai({**CASE, "messages": own})["input"]] == ["mine", "why?"]


@pytest.mark.parametrize(
    "text",
    [
        "{{7*7}}",
        "{{{7*7}}}",
        "{{ range.constructor('return 1')() }}",
        "{% for i in range(9) %}x{% endfor %}",
        "{# gone #}",
        "file:///etc/passwd",
        "  file://x.js",
        "FILE://x.py",
        "package:evil:run",
        "{% endraw %}{{x}}",
    ],
)
def test_nothing_that_promptfoo_would_run_reaches_it(text):
    fields = ("system_text", "input_text", "expected", "app", "feature", "model", "prompt_name", "prompt_version")
    variables = json.dumps({"v": text, "deep": [text, {"k": text}], text: "key"})
    case = {**CASE, **dict.fromkeys(fields, text), "messages": [{"role": text, "text": text}], "variables": variables}
    for value in _strings(promptfoo({**case, "reasons": [f"low_score:{text}", "refused"]})):
        assert not any(opener in value for opener in ("{{", "{%", "{#")), value
        assert not value.strip().lower().startswith(("file://", "package:")), value
    told = promptfoo(case)["vars"]["input"].replace("\u2060", "")
    assert told == text, "a reader sees what was said"
    assert json.loads(promptfoo(case)["vars"]["messages"])[1]["content"].replace("\u2060", "") == text


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [text for key, item in inner for text in (*_strings(key), *_strings(item))]
