"""Cases in the forms of evaluation tools, as their documentation has them. Pure.

DeepEval: ``EvaluationDataset.add_goldens_from_json_file`` reads a JSON array. RAGAS: ``EvaluationDataset.from_jsonl``
reads ``SingleTurnSample`` rows. Langfuse: bodies of ``POST /api/public/dataset-items``. LangSmith: examples of
``Client.create_examples``. Braintrust: records of ``dataset.insert``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobs.golden.export import messages_of, variables_of

Row = dict[str, Any]
_ABOUT = (
    *("case_id", "call_id", "app", "feature", "model", "prompt_name", "prompt_version", "expected_from", "split"),
    "reviewed_by",
)


def deepeval(case: Mapping[str, Any]) -> Row:
    """Return a golden: the input is the last user turn, the answer that failed is in its metadata."""
    return {
        "input": case["input_text"] or "",
        "expected_output": case["expected"],
        "retrieval_context": _contexts(case),
        "name": case["case_id"],
        "additional_metadata": {**_about(case), "messages": messages_of(case), "failed_output": case["output_text"]},
    }


def ragas(case: Mapping[str, Any]) -> Row:
    """Return a single-turn sample; a field that is not known is left out."""
    row: Row = {
        "user_input": case["input_text"] or "",
        "retrieved_contexts": _contexts(case),
        "response": case["output_text"],
        "reference": case["expected"],
        "rubrics": {"rubric": case["rubric"]} if case.get("rubric") else None,  # of the metric InstanceRubrics
    }
    return {name: value for name, value in row.items() if value is not None}


def langfuse(case: Mapping[str, Any]) -> Row:
    """Return the body that creates a dataset item; one with a known id is updated, so it may be sent twice."""
    return {
        "datasetName": f"tailrace/{case['set_name']}",
        "id": f"{case['set_name']}-{case['case_id']}",
        "input": {"messages": messages_of(case), "variables": variables_of(case)},
        "expectedOutput": case["expected"],
        "metadata": {**_about(case), "failed_output": case["output_text"], "contexts": _contexts(case)},
        "status": "ACTIVE",
    }


def langsmith(case: Mapping[str, Any]) -> Row:
    """Return an example with its split."""
    return {
        "inputs": {"messages": messages_of(case), "variables": variables_of(case), "contexts": _contexts(case)},
        "outputs": None if case["expected"] is None else {"answer": case["expected"]},
        "metadata": {**_about(case), "failed_output": case["output_text"]},
        "split": case.get("split"),
    }


def braintrust(case: Mapping[str, Any]) -> Row:
    """Return a record; tags are the reasons and the split."""
    return {
        "id": case["case_id"],
        "input": {"messages": messages_of(case), "variables": variables_of(case), "contexts": _contexts(case)},
        "expected": case["expected"],
        "tags": [*case["reasons"], *([case["split"]] if case.get("split") else [])],
        "metadata": {**_about(case), "failed_output": case["output_text"]},
    }


def chat(case: Mapping[str, Any]) -> Row | None:
    """Return a line of OpenAI's chat form for fine-tuning; None without a correct answer."""
    if not case["expected"]:
        return None
    return {"messages": [*messages_of(case), {"role": "assistant", "content": case["expected"]}]}


def preference(case: Mapping[str, Any]) -> Row | None:
    """Return a preference pair: the correct answer over the one that was given; None without both."""
    if not case["expected"] or not case["output_text"] or case["expected"] == case["output_text"]:
        return None
    return {
        "prompt": messages_of(case),
        "chosen": [{"role": "assistant", "content": case["expected"]}],
        "rejected": [{"role": "assistant", "content": case["output_text"]}],
    }


def _about(case: Mapping[str, Any]) -> Row:
    rubric = {"rubric": case["rubric"]} if case.get("rubric") else {}
    return {name: case.get(name) for name in _ABOUT} | {"reasons": list(case["reasons"])} | rubric


def _contexts(case: Mapping[str, Any]) -> list[str] | None:
    docs = case["retrieval_docs"]
    return None if docs is None else [doc["text"] for doc in docs if doc.get("text")]
