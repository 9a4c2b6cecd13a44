"""``tailrace sql`` as it is called: its questions, and what it may use."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tailrace import wiring
from tailrace.cli.lake import open_lake
from tailrace.settings import Settings
from warehouse.lake import Lake
from warehouse.questions import QUESTIONS


@pytest.fixture
def sql(tmp_path):
    """Run ``tailrace sql`` on an empty lake, with nothing typed."""
    Lake.open(wiring.lake(Settings(home=tmp_path)), now=lambda: 0).close()

    def run():
        env = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
        env |= {"TAILRACE_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "tailrace", "sql"]
        return subprocess.run(
            command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
        ).stdout

    return run


def test_without_text_it_lists_the_questions_that_are_shipped(sql):
    listed = [line.split()[0].partition("(")[0] for line in sql().splitlines() if line.startswith("  ")]
    assert listed == [question.name for question in QUESTIONS]
    assert listed


def test_it_may_use_the_memory_of_the_setting(tmp_path):
    settings = Settings(home=tmp_path, lake={"query_memory_limit": "64MiB"})
    Lake.open(wiring.lake(settings), now=lambda: 0).close()
    with open_lake(SimpleNamespace(settings=settings)) as lake:
        # a reader may not ask for settings itself
        assert lake._connection.execute("SELECT current_setting('memory_limit')").fetchall() == [("64.0 MiB",)]
