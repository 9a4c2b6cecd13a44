"""What `tailrace sql "SELECT 1"` costs, beside Python with a bare DuckDB that attaches the same lake.

    python bench/sql_start.py        (QUICK=1 for a short form)

Rounds are interleaved; the last line is one JSON object. The limit is the least that this lake costs in
Python: import DuckDB, load the two extensions, attach, SELECT 1.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _report import QUICK, report, spread

from tailrace import wiring
from tailrace.settings.model import Settings
from warehouse.lake import Lake

ROUNDS = 3 if QUICK else 15
_BARE = """
import duckdb, sys
from importlib.resources import files
connection = duckdb.connect()
for name in ("ducklake", "sqlite_scanner"):
    file = files(f"duckdb_extension_{name}") / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    connection.execute(f"LOAD '{file}'")
connection.execute(f"ATTACH 'ducklake:sqlite:{sys.argv[1]}' AS lake (DATA_PATH '{sys.argv[2]}', READ_ONLY)")
connection.execute("USE lake")
print(connection.execute("SELECT 1").fetchall())
"""


def timed(command: list[str]) -> tuple[float, float]:
    """Return (wall, CPU) seconds of one call."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    """Print the figures."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a user's second call finds the first one's bytecode
    with tempfile.TemporaryDirectory() as folder:
        config = wiring.lake(Settings(home=Path(folder)))
        Lake.open(config, now=lambda: 0).close()
        tailrace = [sys.executable, "-m", "tailrace", "--home", folder]
        commands = {
            "sql": [*tailrace, "sql", "SELECT 1"],
            "help": [*tailrace, "--help"],
            "bare": [sys.executable, "-c", _BARE, config.catalog, config.data_path + "/"],
        }
        for command in commands.values():
            timed(command)
        rounds = [{name: timed(command) for name, command in commands.items()} for _ in range(ROUNDS)]
    figures: dict[str, object] = {}
    for name in commands:
        figures[f"{name}_wall_s"] = spread([r[name][0] for r in rounds], 3)
        figures[f"{name}_cpu_s"] = spread([r[name][1] for r in rounds], 3)
    ratio = spread([r["sql"][1] / r["bare"][1] for r in rounds], 2)
    report({**figures, "sql_vs_bare_cpu": ratio, "spread": figures["sql_wall_s"]}, "duckdb", "typer", "pydantic")


if __name__ == "__main__":
    main()
