"""The line that `up` prints works in every POSIX shell, for homes of any name."""

import shutil
import subprocess

import pytest

from tailrace.home.env_file import load_line, write_env
from tailrace.home.layout import Home

SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "ksh") if shutil.which(shell)]
HOMES = ["plain", "with a blank", "höme", "it's", 'a "quoted" one', "$HOME `id` \\ ; & * #x", "-x", "tab\there"]
SHOW = 'printf "%s\\n" "$TAILRACE_BOOTSTRAP_SERVERS" "$TAILRACE_HOME" "$TAILRACE_TOPIC_PREFIX"'
CHILD = "python3 -c 'import os; print(os.environ[\"TAILRACE_HOME\"])'"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("name", HOMES)
def test_the_line_exports_every_variable_to_children_of_the_shell(shell, name, tmp_path):
    home = tmp_path / name
    home.mkdir()
    line = load_line(write_env(Home(home), "127.0.0.1:20000,b:9092", "t-1."))
    done = subprocess.run(
        [shell, "-eu", "-c", f"{line}; {SHOW}; {CHILD}"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""
    assert done.stdout.decode().splitlines() == ["127.0.0.1:20000,b:9092", str(home), "t-1.", str(home)]


@pytest.mark.parametrize("shell", SHELLS)
def test_variables_that_follow_the_line_are_not_exported(shell, tmp_path):
    line = load_line(write_env(Home(tmp_path), "b:9092", ""))
    script = f"{line}; MINE=1; python3 -c 'import os; print(os.environ.get(\"MINE\"))'"
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True)
    assert done.stdout == b"None\n"


def test_plain_values_stand_without_quotes_so_that_other_readers_of_such_files_take_them(tmp_path):
    file = write_env(Home(tmp_path), "127.0.0.1:20000", "")
    assert file.read_text() == f"TAILRACE_BOOTSTRAP_SERVERS=127.0.0.1:20000\nTAILRACE_HOME={tmp_path}\n"


def test_the_line_for_apps_is_written_into_a_home_that_is_not_there_yet(tmp_path):
    write_env(Home(tmp_path / "new"), "kafka-1:9092", "p.")
    words_of_file = (tmp_path / "new" / "env").read_text().split()
    assert words_of_file == [
        "TAILRACE_BOOTSTRAP_SERVERS=kafka-1:9092",
        f"TAILRACE_HOME={tmp_path / 'new'}",
        "TAILRACE_TOPIC_PREFIX=p.",
    ]
