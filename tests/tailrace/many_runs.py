"""Runs many command lines as processes of their own: forked from one that has imported everything, 20 ms each.

Run as a script it reads the cases as JSON from stdin and prints what became of them; imported, it starts that script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

REPO = Path(__file__).parents[2]
_NO_SUPERUSER = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--"]
"""Root without its right to pass over permissions: a file of mode 0 is one that it may not read."""


@dataclass(frozen=True)
class Run:
    """One command line, and what it starts with."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    stdout: str = ""
    """File that stdout is; empty: it is read."""
    timeout_s: float = 20


@dataclass(frozen=True)
class Ran:
    """What became of it. ``code`` below 0: the signal that ended it; SIGALRM where it took too long."""

    code: int
    stdout: str
    stderr: str


def run_all(runs: Sequence[Run]) -> list[Ran]:
    """Run them one after the other; return what became of each."""
    done = subprocess.run(
        [*(_NO_SUPERUSER if os.geteuid() == 0 else ()), sys.executable, __file__],
        input=json.dumps([asdict(run) for run in runs]),
        capture_output=True,
        text=True,
        cwd=REPO,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Ran(**each) for each in json.loads(done.stdout)]


def _import_everything() -> None:
    from importlib import import_module

    from tailrace.cli.commands import COMMANDS

    for entry in COMMANDS.values():
        import_module(f"tailrace.cli.{entry.module}")


def _run(run: Run) -> Ran:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _become(run, out.fileno(), err.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = [os.pread(f.fileno(), 1 << 20, 0).decode(errors="replace") for f in (out, err)]
        return Ran(code, *texts)


def _become(run: Run, out: int, err: int) -> None:
    import signal
    import traceback

    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(run.stdout, os.O_WRONLY) if run.stdout else out, 1)
        os.dup2(err, 2)
        signal.alarm(int(run.timeout_s))
        os.chdir(run.cwd)
        for name in [name for name in os.environ if name.startswith("TAILRACE_")]:
            del os.environ[name]
        os.environ.update(run.environment)
        from tailrace.__main__ import main

        sys.argv = ["tailrace", *run.arguments]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - the end of a process: what a person would see
        traceback.print_exc()
        code = 1
    sys.stderr.flush()
    try:
        sys.stdout.flush()
    except OSError:
        traceback.print_exc()
        code = 120  # as the interpreter does
    os._exit(code)


if __name__ == "__main__":
    sys.path[:0] = [str(REPO), str(REPO / "emitter")]
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    _import_everything()
    sys.stdout.write(json.dumps([asdict(_run(Run(**each))) for each in json.loads(sys.stdin.read())]))
