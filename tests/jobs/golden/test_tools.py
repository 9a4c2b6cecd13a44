"""Forms of evaluation tools, parts of a set, and what a model may learn from."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from jobs.golden import tools
from jobs.golden.difference import difference, facts
from jobs.golden.splits import HELD_OUT, held_out, split

CASE: dict[str, Any] = {
    "set_name": "production",
    "case_id": "0123456789abcdef",
    "call_id": "00000000-0000-4000-8000-000000000001",
    "app": "bot",
    "feature": None,
    "model": "gpt-4o",
    "prompt_name": "answer",
    "prompt_version": "3",
    "reasons": ["edited"],
    "system_text": "be kind",
    "messages": [{"role": "user", "text": "hi"}, {"role": "assistant", "text": "ho"}, {"role": None, "text": "why?"}],
    "input_text": "why?",
    "output_text": "no",
    "retrieval_docs": [{"id": "d", "text": "facts"}, {"id": "e", "text": None}],
    "expected": "because",
    "expected_from": "edit",
    "variables": '{"name": "Ann"}',
    "split": "dev",
    "reviewed_by": "ann",
}
TURNS = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "ho"},
    {"role": "user", "content": "why?"},
]
ABOUT = {
    **{name: CASE[name] for name in ("case_id", "call_id", "app", "feature", "model", "prompt_name", "prompt_version")},
    "expected_from": "edit",
    "split": "dev",
    "reviewed_by": "ann",
    "reasons": ["edited"],
}


def test_deepeval_reads_a_golden():
    assert tools.deepeval(CASE) == {
        "input": "why?",
        "expected_output": "because",
        "retrieval_context": ["facts"],
        "name": CASE["case_id"],
        "additional_metadata": {**ABOUT, "messages": TURNS, "failed_output": "no"},
    }


def test_ragas_reads_a_single_turn_sample_without_what_is_not_known():
    found = tools.ragas(CASE)
    assert found == {"user_input": "why?", "retrieved_contexts": ["facts"], "response": "no", "reference": "because"}
    unpad = tools.ragas({**CASE, "expected": None, "retrieval_docs": None})
    assert set(unpad) == {"user_input", "response"}


def test_langfuse_gets_the_body_of_a_dataset_item():
    found = tools.langfuse(CASE)
    assert set(found) == {"datasetName", "id", "input", "expectedOutput", "metadata", "status"}
    assert (found["datasetName"], found["id"]) == ("tailrace/production", "production-0123456789abcdef")
    assert found["input"] == {"messages": TURNS, "variables": {"name": "Ann"}}
    assert (found["expectedOutput"], found["status"]) == ("because", "ACTIVE")


def test_langsmith_gets_an_example_with_its_split():
    found = tools.langsmith(CASE)
    assert set(found) == {"inputs", "outputs", "metadata", "split"}
    assert (found["outputs"], found["split"]) == ({"answer": "because"}, "dev")
    assert tools.langsmith({**CASE, "expected": None})["outputs"] is None


def test_braintrust_gets_a_record_with_tags():
    found = tools.braintrust(CASE)
    assert set(found) == {"id", "input", "expected", "tags", "metadata"}
    assert (found["expected"], found["tags"]) == ("because", ["edited", "dev"])


def test_a_rubric_goes_where_each_tool_has_a_place_for_it():
    case = {**CASE, "rubric": "names the city"}
    assert tools.ragas(case)["rubrics"] == {"rubric": "names the city"}
    assert tools.deepeval(case)["additional_metadata"]["rubric"] == "names the city"
    for form in (tools.langfuse, tools.langsmith, tools.braintrust):
        assert form(case)["metadata"]["rubric"] == "names the city"
        assert "rubric" not in form(CASE)["metadata"]


def test_a_model_learns_from_answers_that_were_wanted_only():
    assert tools.chat(CASE) == {"messages": [*TURNS, {"role": "assistant", "content": "because"}]}
    assert tools.preference(CASE) == {
        "prompt": TURNS,
        "chosen": [{"role": "assistant", "content": "because"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    for changes in ({"expected": None}, {"expected": ""}):
        assert tools.chat({**CASE, **changes}) is None
        assert tools.preference({**CASE, **changes}) is None
    assert tools.preference({**CASE, "output_text": "because"}) is None
    assert tools.preference({**CASE, "output_text": None}) is None


def test_parts_are_drawn_by_the_id_alone_and_unreviewed_cases_are_a_shadow():
    cases = [{"case_id": f"{i:016x}", "review": "accepted", "expected_from": None} for i in range(4000)]
    found = Counter(split(case) for case in cases)
    assert abs(found["heldout"] / 4000 - HELD_OUT) < 0.03
    assert found["shadow"] == 0
    assert all((split(case) == "heldout") == held_out(case["case_id"]) for case in cases)
    assert {split({**case, "review": None}) for case in cases} == {"shadow"}
    assert "shadow" not in {split({**case, "review": None, "expected_from": "import"}) for case in cases}


def test_a_difference_names_what_came_what_left_and_what_is_another_one():
    old = [{**CASE, "case_id": i} for i in "abcd"]
    new = [
        {**CASE, "case_id": "a"},
        {**CASE, "case_id": "b", "expected": "else", "rubric": "new", "reasons": ["edited", "error"]},
        {**CASE, "case_id": "c", "output_text": "other"},
        {**CASE, "case_id": "e"},
    ]
    found = facts(difference(old, new))
    assert found == {
        "added": [{"case_id": "e", "reasons": ["edited"], "asked": "hi\nho\nwhy?"}],
        "removed": [{"case_id": "d", "asked": "hi\nho\nwhy?"}],
        "changed": [{"case_id": "b", "what": ["expected", "rubric", "reasons"]}, {"case_id": "c", "what": ["texts"]}],
        "same": 1,
    }
    assert json.dumps(found)
