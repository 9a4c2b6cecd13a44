"""Each export is opened by the tool that it is for: the library of PyPI, promptfoo of npm.

The tools are installed once, into the user's cache folder and not into ours: they bring 200 packages that Tailrace does
not need. ``pytest -m slow tests/jobs/golden/test_real_tools.py`` runs this; ``test_tools.py`` checks the shapes always.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from filelock import FileLock

from schemas.tables import GOLDEN_CASES
from tailrace.golden.files import Part, Target, exported
from tests.jobs.golden.test_choose import call, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
REPO = Path(__file__).parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tailrace" / "golden-tools"
LIBRARIES = (
    "braintrust==0.48.1",
    "deepeval==4.3.1",
    "langfuse==5.0.4",
    "langsmith==0.15.1",
    "ragas==0.4.3",
    "langchain-community<0.4",
)
PROMPTFOO = "promptfoo@0.119.0"
"""For Node 20: 0.120.0 does not find its own migrations, later ones need Node 22."""
QUIET = {
    **{"DEEPEVAL_TELEMETRY_OPT_OUT": "YES", "RAGAS_DO_NOT_TRACK": "true", "LANGSMITH_TRACING": "false"},
    **{"PROMPTFOO_DISABLE_TELEMETRY": "1", "PROMPTFOO_DISABLE_UPDATE": "1", "PROMPTFOO_SELF_HOSTED": "1"},
    **{"PROMPTFOO_DISABLE_REMOTE_GENERATION": "1", "NO_COLOR": "1"},
}


def installed(folder: Path, *commands: list[str]) -> Path:
    """Run ``commands`` once for ``folder``; a machine that reaches no registry skips."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for command in commands:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=1500, check=False)
                if done.returncode:
                    pytest.skip(f"{command[0]} cannot install it here: {done.stderr.strip()[-300:]}")
            (folder / "ready").touch()
    return folder


@pytest.fixture(scope="session")
def python() -> Path:
    """The interpreter that has the libraries."""
    own = REPO / ".cache" / "uv" / "bin" / "uv"
    uv = str(own) if own.exists() else shutil.which("uv")
    if uv is None:
        pytest.skip("there is no uv: `make setup` installs it")
    name = hashlib.sha256(" ".join(LIBRARIES).encode()).hexdigest()[:12]
    target = str(CACHE / name / "venv" / "bin" / "python")
    made = [uv, "venv", "--quiet", "--python", str(REPO / ".venv" / "bin" / "python"), "venv"]
    installed(CACHE / name, made, [uv, "pip", "install", "--quiet", "--python", target, *LIBRARIES])
    return Path(target)


@pytest.fixture(scope="session")
def promptfoo() -> Path:
    """The command of promptfoo."""
    if shutil.which("npm") is None:
        pytest.skip("there is no npm")
    folder = CACHE / PROMPTFOO.replace("@", "-")
    options = ["--no-audit", "--no-fund", "--prefix", "."]
    installed(folder, ["npm", "install", *options, PROMPTFOO])
    return folder / "node_modules" / ".bin" / "promptfoo"


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Target], Path]:
    """Write a set in a form: with and without reference, texts, variables, hostile text."""
    docs = [{"id": "d", "rank": 1, "score": 0.5, "chunk": None, "text": "Paris is the capital.", "cited": None}]
    calls = [
        call(1, "edited", edited="Paris", retrieval_docs=docs, variables='{"country": "France", "n": [1]}'),
        call(2, "error", text="{{ 7 * 7 }} file:///etc/passwd", output_text=None),
        call(3, "refused", output_text="I cannot help with that.", messages=None),
        call(4, "thumbs_down", text="été ☃ \u202e", prompt_name="answer", prompt_version="3"),
    ]
    rows = [{**case, "set_name": "production", "version": 1} for case in run(calls).cases]
    table = pa.Table.from_pylist(rows, GOLDEN_CASES.schema)
    table = table.append_column("review", pa.array(["accepted", None, "accepted", None]))
    table = table.append_column("reviewed_by", pa.array(["ann", None, "ann", None]))
    folder = tmp_path_factory.mktemp("exports")

    def write(target: Target) -> Path:
        count, content = exported(target, Part.ALL, table)
        assert count == 4
        file = folder / f"{target.value}.{'json' if target is Target.DEEPEVAL else 'jsonl'}"
        file.write_bytes(content)
        return file

    return write


def opened(python: Path, script: str, file: Path) -> Any:
    """Run ``script`` in the interpreter with the libraries; return what it printed last, as JSON."""
    command = [str(python), "-c", script, str(file)]
    home = {"HOME": str(file.parent), "PATH": os.environ["PATH"], **QUIET}
    done = subprocess.run(command, env=home, cwd=file.parent, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_deepeval_adds_the_goldens(python: Path, export: Callable[[Target], Path]) -> None:
    script = """
import json, sys
from deepeval.dataset import EvaluationDataset
dataset = EvaluationDataset()
dataset.add_goldens_from_json_file(sys.argv[1])
print(json.dumps([[g.input, g.expected_output, g.retrieval_context, g.name, g.additional_metadata["app"]]
                  for g in dataset.goldens]))
"""
    found = opened(python, script, export(Target.DEEPEVAL))
    assert len(found) == 4
    first = next(each for each in found if each[1])
    assert first[1:3] == ["Paris", ["Paris is the capital."]]
    assert {each[4] for each in found} == {"bot"}
    assert all(len(each[3]) == 16 for each in found)


def test_ragas_reads_the_samples(python: Path, export: Callable[[Target], Path]) -> None:
    script = """
import json, sys
from ragas import EvaluationDataset
dataset = EvaluationDataset.from_jsonl(sys.argv[1])
print(json.dumps([[type(s).__name__, s.user_input, s.reference, s.retrieved_contexts] for s in dataset]))
"""
    found = opened(python, script, export(Target.RAGAS))
    assert [each[0] for each in found] == ["SingleTurnSample"] * 4
    assert ["Paris", ["Paris is the capital."]] in [each[2:] for each in found]


def test_langfuse_takes_the_bodies_of_dataset_items(python: Path, export: Callable[[Target], Path]) -> None:
    script = """
import json, sys
from langfuse.api import CreateDatasetItemRequest as Request
from langfuse.api.core.pydantic_utilities import parse_obj_as
known = set(Request.model_fields) | {"datasetName", "expectedOutput", "sourceTraceId", "sourceObservationId"}
rows = [json.loads(line) for line in open(sys.argv[1])]
assert not {name for row in rows for name in row} - known, known
items = [parse_obj_as(Request, row) for row in rows]
print(json.dumps([[i.dataset_name, i.id, i.expected_output, str(i.status)] for i in items]))
"""
    found = opened(python, script, export(Target.LANGFUSE))
    assert {each[0] for each in found} == {"tailrace/production"}
    assert [each[2] for each in found].count("Paris") == 1
    assert len({each[1] for each in found}) == 4


def test_langsmith_takes_the_examples(python: Path, export: Callable[[Target], Path]) -> None:
    script = """
import json, sys
from langsmith.schemas import ExampleCreate
items = [ExampleCreate(**json.loads(line)) for line in open(sys.argv[1])]
print(json.dumps([[sorted(i.inputs), i.model_dump(by_alias=True)["outputs"], i.split] for i in items]))
"""
    found = opened(python, script, export(Target.LANGSMITH))
    assert {tuple(each[0]) for each in found} == {("contexts", "messages", "variables")}
    assert {"answer": "Paris"} in [each[1] for each in found]
    assert {each[2] for each in found} <= {"dev", "heldout", "shadow"}


def test_braintrust_runs_an_evaluation_on_the_records(python: Path, export: Callable[[Target], Path]) -> None:
    script = """
import json, sys
import braintrust
rows = [json.loads(line) for line in open(sys.argv[1])]
found = braintrust.Eval("golden", data=lambda: rows, task=lambda input: input["messages"][-1]["content"],
    scores=[lambda input, output, expected: float(bool(output))], no_send_logs=True)
print(json.dumps([[r.expected, r.tags, r.metadata["app"], str(r.error)] for r in found.results]))
"""
    found = opened(python, script, export(Target.BRAINTRUST))
    assert len(found) == 4
    assert {each[3] for each in found} == {"None"}
    assert any(each[0] == "Paris" and "edited" in each[1] for each in found)


def test_promptfoo_runs_an_evaluation_with_its_echo_provider(
    promptfoo: Path, export: Callable[[Target], Path], tmp_path: Path
) -> None:
    tests = [json.loads(line) for line in export(Target.PROMPTFOO).read_text().splitlines()]
    for test in tests:
        # `similar` embeds texts with a provider: an assertion that needs none takes its place
        test["assert"] = [
            {**a, "type": "icontains", "value": "w1x0"} if a["type"] == "similar" else a for a in test["assert"]
        ]
    (tmp_path / "tests.jsonl").write_text("".join(json.dumps(test) + "\n" for test in tests))
    config = {"prompts": ["{{input}}"], "providers": ["echo"], "tests": "file://tests.jsonl"}
    (tmp_path / "promptfooconfig.json").write_text(json.dumps(config))
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **QUIET}
    command = [str(promptfoo), "eval", "-c", "promptfooconfig.json", "-o", "out.json", "--no-cache"]
    done = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900, check=False
    )
    out = tmp_path / "out.json"
    assert out.exists(), done.stdout[-1000:] + done.stderr[-2000:]
    results = json.loads(out.read_text())["results"]["results"]
    echoed = {r["vars"]["input"]: r["response"]["output"] for r in results}
    assert len(results) == 4
    assert not [r for r in results if r.get("error") and "Error" in r["error"]]
    assert all(answer.strip() == asked.strip() for asked, answer in echoed.items()), "no text is run as a template"
    assert not [text for text in echoed.values() if "49" in text or "root:" in text]
