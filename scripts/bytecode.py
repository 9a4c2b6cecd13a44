"""Write the bytecode of our own code, and of what its commands, stages and jobs import.

    .venv/bin/python scripts/bytecode.py

Where PYTHONDONTWRITEBYTECODE is set, as images and many build machines have it, nobody else writes any: each call of
`tailrace sql` would compile 600 modules, which is half of its time, and each start of drift torch.
"""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OURS = ("emitter/tailrace_emitter", "schemas", "warehouse", "pipelines", "jobs", "tailrace")
_IMPORT = """
from importlib import import_module
from tailrace.cli.commands import COMMANDS
for entry in COMMANDS.values():
    import_module(f"tailrace.cli.{entry.module}")
import rich.table, tailrace.cli.render.rows
import jobs.scheduler, pipelines.detect.app, pipelines.drift.app, tailrace.batch_jobs
import great_expectations, sentence_transformers
"""


def main() -> None:
    """Compile the folders; then import every command and stage in a process that may write bytecode."""
    for folder in OURS:
        compileall.compile_dir(ROOT / folder, quiet=1)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("TAILRACE_", "PYTHONDONT"))}
    subprocess.run([sys.executable, "-c", _IMPORT], cwd=ROOT, env=env, check=True)


if __name__ == "__main__":
    main()
