"""The gate itself: a promise whose test was skipped must not pass CI."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent


@pytest.fixture
def gated(tmp_path):
    """A folder with our conftest and one skipped test; call with its mark and the environment: (code, output)."""
    shutil.copy(REPO / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  required: as ours\n")

    def run(mark, **environment):
        (tmp_path / "test_promise.py").write_text(
            f"import pytest\n\n{mark}\ndef test_promise():\n    pytest.skip('no tool here')\n"
        )
        ours = {"CI", "TAILRACE_FAULTS_TABLE"}  # the inner run writes no page
        settings = {key: value for key, value in os.environ.items() if key not in ours}
        settings |= {"PYTHONPATH": str(REPO), **environment}
        command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(tmp_path)]
        done = subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    return run


def test_a_skipped_required_test_fails_ci_by_name(gated):
    code, output = gated("@pytest.mark.required", CI="1")
    assert code == 1
    assert "required tests that were skipped" in output
    assert "test_promise.py::test_promise" in output


def test_a_skipped_ordinary_test_does_not_and_its_reason_is_shown(gated):
    code, output = gated("", CI="1")
    assert code == 0
    assert "no tool here" in output


def test_outside_ci_a_skipped_required_test_is_only_shown(gated):
    code, output = gated("@pytest.mark.required")
    assert code == 0
    assert "required tests that were skipped" in output
