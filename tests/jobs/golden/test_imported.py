"""An existing test set comes in whole or not at all, once, and is compared, exported and judged like any other."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.gate.golden_file import from_lines
from jobs.golden.imported import ImportFailedError, read
from schemas.errors import FatalError
from schemas.tables import LOG_RECORDS
from tests.jobs.golden.lake import Home, Tailrace, failed, golden_of, now, review
from warehouse.lake import Lake

JSONL = """{"question": "What is it?", "ground_truth": "A lamp", "contexts": ["one", "two"], "id": "q1"}
{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "Hi, I am joe@example.com"}]}

{"inputs": {"question": "Why?"}, "outputs": {"answer": "Because"}, "metadata": {}, "rubric": "for joe@example.com"}
"""
CSV = 'input,expected_output,prompt_name\n"a, b",yes,p\nc,,\n'
PROMPTFOO = """
prompts: [x]
tests:
  - vars: {question: "How?", name: Ann}
    assert: [{type: equals, value: So}, {type: regex, value: x}, {type: regex, value: y}]
  - vars: {city: Rome}
    assert: [{type: llm-rubric, value: Names it}, {type: g-eval, value: [Is kind, Is short]}]
"""


@pytest.fixture
def command(home: Home) -> Tailrace:
    return golden_of(home.config)


def test_json_lines_of_many_tools_are_cases():
    cases = {case["input_text"]: case for case in read(JSONL, "a.jsonl", set_name="s").cases}
    assert set(cases) == {"What is it?", "Hi, I am <EMAIL_1>", "Why?"}
    assert cases["What is it?"]["expected"] == "A lamp"
    assert [doc["text"] for doc in cases["What is it?"]["retrieval_docs"]] == ["one", "two"]
    assert cases["Why?"]["expected"] == "Because"
    assert (cases["Why?"]["rubric"], cases["What is it?"]["rubric"]) == ("for <EMAIL_1>", None)
    assert cases["Hi, I am <EMAIL_1>"]["messages"][0] == {"role": "system", "text": "s"}
    assert {case["expected_from"] for case in cases.values()} == {"import"}


def test_a_table_is_cases():
    found = read(CSV, "a.CSV", set_name="s").cases
    assert sorted((c["input_text"], c["expected"], c["prompt_name"]) for c in found) == [
        ("a, b", "yes", "p"),
        ("c", None, None),
    ]


def test_promptfoos_tests_are_cases_and_what_they_cannot_carry_is_counted():
    found = read(PROMPTFOO, "promptfooconfig.yaml", set_name="s")
    cases = {case["input_text"]: case for case in found.cases}
    assert set(cases) == {"How?", '{"city": "Rome"}'}
    assert cases["How?"]["expected"] == "So"
    assert json.loads(cases["How?"]["variables"]) == {"question": "How?", "name": "Ann"}
    assert cases['{"city": "Rome"}']["rubric"] == "Names it\nIs kind\nIs short"
    assert found.left_out == {"regex": 2}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"input": "x"}\n{broken', "a.jsonl, line 2: it is no JSON"),
        ("a.jsonl", '{"input": "x"}\n[1]', "a.jsonl, line 2: it is no object"),
        ("a.jsonl", '{"output": "x"}', "it has no input"),
        ("a.jsonl", "", "it holds no case"),
        ("a.jsonl", '{"messages": [1]}', "messages is no list of objects"),
        ("a.csv", "input\na,b", "more cells than the header"),
        ("a.yaml", "tests: [", "line 1: it is no YAML"),
        ("a.yaml", "prompts: []", "it has no list `tests`"),
        ("a.yaml", "tests: [file://x.csv]", "test 1: it has no `vars`"),
        ("a.txt", "x", "its name ends neither with"),
    ],
)
def test_what_is_no_case_is_named_and_nothing_is_imported(name, text, said):
    with pytest.raises(ImportFailedError) as error:
        read(text, name, set_name="s")
    assert said in str(error.value)


@pytest.mark.extended
def test_an_import_is_a_version_and_a_second_one_adds_nothing(home: Home, command: Tailrace, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(JSONL)
    assert "golden set ours, version 1: 3 cases added, 0 were there already" in command(
        "import", str(file), "--set", "ours"
    )
    assert "version 1: 0 cases added, 3 were there already" in command("import", str(file), "--set", "ours")
    (tmp_path / "b.csv").write_text(CSV)
    assert "version 2: 2 cases added" in command("import", str(tmp_path / "b.csv"), "--set", "ours")
    assert len(home.hashes("ours")) == 2
    diff = json.loads(command("diff", "1", "2", "--set", "ours", "--json"))
    assert (len(diff["added"]), diff["removed"], diff["changed"], diff["same"]) == (2, [], [], 3)
    assert command("diff", "2", "1", "--set", "ours").startswith("0 added, 2 removed, 0 changed, 3 the same\n- ")
    command("export", "--format", "jsonl", "--set", "ours", "--out", str(tmp_path / "out.jsonl"))
    judged = from_lines((tmp_path / "out.jsonl").read_text().splitlines(), "out.jsonl")
    assert (len(judged.cases), judged.problems) == (5, ())
    assert not any(case.shadow for case in judged.cases)
    with pytest.raises(FatalError, match="a refresh would drop imported cases"):
        command("import", str(file), "--set", "production")
    assert "version 2 stays: 5 cases, 0 new, 5 kept" in command("refresh", "--set", "ours")


def test_every_form_is_exported_and_held_out_cases_are_never_learned_from(
    home: Home, command: Tailrace, tmp_path: Path
) -> None:
    home.land([failed(i) for i in range(12)])
    home.refresh()
    ids = [case["case_id"] for case in home.ask("FROM golden ORDER BY case_id")]
    with Lake.open(home.config, now=now) as lake:
        rows = [review(i, case, "accepted", f"right {i}") for i, case in enumerate(ids[:8])]
        lake.append({"log_records": pa.Table.from_pylist(rows, LOG_RECORDS.schema)}, [])
    parts = {}
    for part in ("all", "dev", "heldout", "shadow"):
        out = tmp_path / f"{part}.jsonl"
        command("export", "--format", "jsonl", "--split", part, "--out", str(out))
        parts[part] = {json.loads(line)["case_id"] for line in out.read_text().splitlines()}
    assert parts["shadow"] == set(ids[8:])
    assert parts["dev"] | parts["heldout"] == set(ids[:8])
    assert parts["all"] == set(ids)
    for form in ("deepeval", "ragas", "langfuse", "langsmith", "braintrust", "chat", "preferences"):
        out = tmp_path / form
        command("export", "--format", form, "--out", str(out))
        text = out.read_text()
        found = json.loads(text) if form == "deepeval" else [json.loads(line) for line in text.splitlines()]
        learned = form in ("chat", "preferences")
        assert len(found) == (len(parts["dev"]) if learned else 12)
    row = json.loads((tmp_path / "dev.jsonl").read_text().splitlines()[0]) if parts["dev"] else {}
    assert (row.get("review"), row.get("reviewed_by")) == ("accepted", "ann") or not parts["dev"]
