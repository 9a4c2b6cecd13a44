"""What the gate reads: targets, templates, cases. What is wrong is named, and nothing in it runs."""

from __future__ import annotations

import json

import pytest

from jobs.evals.case import Context, Message
from jobs.gate.golden_file import GoldenCase, from_lines, from_row
from jobs.gate.render import request
from jobs.gate.settings import GateInputError
from jobs.gate.targets import parse_target
from jobs.gate.template import Template, TemplateError

CASE = GoldenCase(
    "c1",
    "How do I return it?",
    (Message("system", "old system"), Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "How?")),
    prompt_name="support",
    variables={"product": "lamp", "evil": "{{ 7 * 7 }}"},
    contexts=(Context("d1", "Returns take 14 days."), Context("d2", None)),
)


def test_a_target_is_a_model_with_parameters_and_a_template():
    found = parse_target(
        "model: m1\nbase_url: http://h/v1\nparameters: {temperature: 0.2}\n"
        "template: {name: support, version: '8', system: 'Be kind.', user: 'About {{product}}'}\n",
        "c.yaml",
    )
    assert (found.name, found.model, found.parameters) == ("m1", "m1", {"temperature": 0.2})
    assert found.template == Template("support", "8", "Be kind.", "About {{product}}")
    assert found.cacheable


def test_what_answers_is_in_the_digest_and_how_fast_it_is_asked_is_not():
    def of(text: str) -> str:
        return parse_target(text, "c.yaml").digest

    assert of("model: a") == of("model: a\nname: other\ntimeout_s: 5\nretries: 0\nconcurrency: 1")
    assert len({of("model: a"), of("model: b"), of("model: a\nparameters: {seed: 1}"), of("command: [a]")}) == 4


def test_answers_of_a_command_are_kept_only_with_a_version():
    assert not parse_target("command: [python, a.py]", "c.yaml").cacheable
    assert parse_target("command: [python, a.py]\nversion: abc", "c.yaml").cacheable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "c.yaml"),
        ("model: [", "line 1"),
        ("name: x", "neither a model nor a command"),
        ("model: a\ncommand: [b]", "both a model and a command"),
        ("model: a\napi_key: sk-123", "api_key"),
        ("model: a\ntimeout_s: 0", "timeout_s is 0"),
        ("model: a\nparameters: {model: b, n: 3}", "model, n"),
        ("model: a\ntemplate: {}", "neither a system nor a user text"),
        ("model: a\ntemplate: {user: '{{a'}", "line 1"),
    ],
)
def test_a_wrong_target_is_refused_with_its_cause(text, said):
    with pytest.raises(GateInputError) as error:
        parse_target(text, "c.yaml")
    assert said in str(error.value)
    assert str(error.value).startswith("c.yaml")


def test_a_template_replaces_the_system_text_and_the_last_user_turn():
    found = request(CASE, Template("support", system="For {{product}}.", user="{{input}} ({{contexts[0]}})"))
    assert found.rendered
    assert found.messages == (
        {"role": "system", "content": "For lamp."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "How do I return it? (Returns take 14 days.)"},
    )


def test_a_variable_is_data_and_no_template():
    assert request(CASE, Template(user="{{evil}}")).messages[-1]["content"] == "{{ 7 * 7 }}"


@pytest.mark.parametrize(
    "text",
    [
        "{% include 'x' %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{% for i in range(10**9) %}x{% endfor %}",
    ],
)
def test_the_sandbox_holds(text):
    with pytest.raises(TemplateError):
        request(CASE, Template(user=text))


@pytest.mark.parametrize("template", [None, Template("other", user="{{product}}")])
def test_without_a_fitting_template_the_recorded_conversation_is_sent(template):
    found = request(CASE, template)
    assert not found.rendered
    assert [m["content"] for m in found.messages] == ["old system", "Hi", "Yes?", "How?"]


def test_a_case_without_variables_is_sent_as_recorded_unless_the_template_needs_none():
    unpad = GoldenCase("c2", "Why?", system_text="old")
    assert not request(unpad, Template(user="{{product}}")).rendered
    found = request(unpad, Template(system="new"))
    assert found.rendered
    assert [m["content"] for m in found.messages] == ["new", "Why?"]


def test_a_variable_that_a_case_lacks_is_named():
    with pytest.raises(TemplateError, match="needs colour, size"):
        request(CASE, Template(user="{{size}} {{colour}} {{product}}"))


def line(**changes: object) -> str:
    return json.dumps({"case_id": "a", "input_text": "hi", **changes})


def test_lines_that_are_no_case_are_named_and_the_others_are_judged():
    rows = [
        line(),
        "",
        "{broken",
        line(case_id="b", expected="yes"),
        line(case_id=3),
        line(),
        "[]",
        '{"case_id": "z"}',
    ]
    found = from_lines(rows, "g.jsonl")
    assert [case.case_id for case in found.cases] == ["a", "b"]
    assert [problem.partition(":")[0] for problem in found.problems] == [f"g.jsonl, line {n}" for n in (3, 5, 6, 7, 8)]
    assert "stands there twice" in found.problems[2]


def test_the_content_hash_is_of_the_cases_in_any_order():
    one = from_lines([line(), line(case_id="b")], "x")
    assert one.content_hash == from_lines([line(case_id="b"), "", line()], "y").content_hash
    assert one.content_hash != from_lines([line(), line(case_id="b", expected="no")], "x").content_hash


def test_a_row_of_the_lake_is_a_case():
    found = from_row(
        {
            "case_id": "a",
            "input_text": None,
            "messages": [{"role": "user", "text": "one"}, {"role": "assistant", "text": "two"}],
            "variables": '{"x": 1}',
            "retrieval_docs": [{"id": "d", "rank": 1, "score": 0.5, "text": "t", "relevant": True}],
            "expected": "three",
            "ts": "2026-01-01",
        }
    )
    assert (found.input_text, found.variables, found.reference) == ("one", {"x": 1}, "three")
    assert found.contexts == (Context("d", "t", 1, True),)
    assert from_row({"case_id": "a", "input_text": "x", "variables": "{cut"}).variables is None
    with pytest.raises(ValueError, match="expect"):
        from_row({"case_id": "a", "input_text": "x", "expect": {"min_chars": "many"}})
