"""``user id`` names a person as the emitters do: the real command, the emitter's own function."""

import os
import subprocess
import sys

import pytest

from tailrace_emitter.redact import pseudonym

ALICE = "alice@example.org"


@pytest.fixture
def user_id(tmp_path):
    """Run ``tailrace user id alice@example.org`` with these variables and no others of ours."""

    def run(**environment):
        env = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
        env |= {"TAILRACE_HOME": str(tmp_path / "home"), **environment}
        command = [sys.executable, "-m", "tailrace", "user", "id", ALICE]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    return run


def test_the_key_may_stand_in_the_variable_or_in_a_file_and_the_variable_wins(user_id, tmp_path):
    (tmp_path / "key").write_text("from the file\n")
    (tmp_path / "tailrace.toml").write_text('user_key = "from the settings"\n')
    file = {"TAILRACE_USER_KEY_FILE": str(tmp_path / "key")}
    both = {**file, "TAILRACE_USER_KEY": "from the variable"}
    for said, key in ((both, "from the variable"), (file, "from the file"), ({}, "from the settings")):
        done = user_id(**said)
        assert (done.returncode, done.stdout) == (0, pseudonym(ALICE, key) + "\n"), done.stderr


@pytest.mark.parametrize("variable", [{}, {"TAILRACE_USER_KEY": ""}], ids=["absent", "empty"])
def test_without_a_key_it_says_what_to_set(user_id, variable):
    done = user_id(**variable)
    assert (done.returncode, done.stdout) == (2, "")
    assert "user_key: not set" in done.stderr
    assert "TAILRACE_USER_KEY_FILE" in done.stderr


def test_a_file_that_is_not_there_is_named(user_id, tmp_path):
    done = user_id(TAILRACE_USER_KEY_FILE=str(tmp_path / "lost"))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path / 'lost'}: No such file or directory" in done.stderr
