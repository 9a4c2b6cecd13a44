"""Starts commands and stages by fork from a process that has imported their modules, which takes seconds of CPU time.

What is forked is a whole process of its own: no connection, no thread, no DuckDB is open before the fork. The modules
of a command are imported when it is asked for first. Run as a script this is the parent of all of them; imported, it
is what tests start them with: `Forked` a stage, `run_command` a command to its end.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Self

REPO = Path(__file__).parents[3]
LATE = {
    "land": ("pipelines.land",),
    "meter": ("pipelines.meter.stage",),
    "detect": ("pipelines.detect.app",),
    "drift": ("pipelines.drift.embed", "pipelines.drift.app"),
    "notify": ("pipelines.notify.stage",),
    "schedule": ("jobs.scheduler", "tailrace.batch_jobs"),
    "job": ("jobs.scheduler", "tailrace.batch_jobs"),
}
"""Command -> what its module imports only when the command runs."""


@dataclass(frozen=True)
class Code:
    """Python text, in the place of a command."""

    text: str
    modules: Sequence[str] = ()
    """What it imports that takes long; imported before the fork."""


class Forked:
    """As much of ``Popen`` as a test needs, for a process whose parent is the zygote."""

    def __init__(
        self, arguments: Sequence[str], log: Path, environment: Mapping[str, str], code: Code | None = None
    ) -> None:
        """Start the stage ``arguments``, or ``code`` with them as ``sys.argv[1:]``; ``log`` takes its output."""
        log.touch()  # `lines` may be called before the child opens it
        self.pid = _zygote().fork(arguments, environment, REPO, code=code, supervised=not code, out=log, err=log)
        self.returncode: int | None = None
        self._log = log

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.wait()

    def lines(self) -> Iterator[str]:
        """Yield the lines of the log as they are written, until the process has ended."""
        with self._log.open("rb") as file:
            line = b""
            while True:
                ended = self.poll() is not None
                line += file.readline()
                if line.endswith(b"\n"):
                    yield line.decode(errors="replace")
                    line = b""
                elif ended:
                    return
                else:
                    time.sleep(0.02)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _zygote().code(self.pid)
        return self.returncode

    def wait(self, timeout: float = 60) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # ended, and its parent has not told us yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def run_command(
    words: Sequence[str],
    *,
    code: Code | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path = REPO,
    input: str = "",
    timeout: float = 120,
    check: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run ``tailrace WORDS``, or ``code`` with them, to its end as ``subprocess.run`` would; its output is text."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("stdin", "out", "err")}
        files["stdin"].write_bytes(input.encode())
        zygote = _zygote()
        pid = zygote.fork(words, os.environ if env is None else env, cwd, code=code, supervised=False, **files)
        status = zygote.wait(pid, timeout)
        if status is None:
            os.kill(pid, signal.SIGKILL)
            zygote.wait(pid, 60)
        out, err = (files[name].read_bytes().decode() for name in ("out", "err"))
    if status is None:
        raise subprocess.TimeoutExpired(list(words), timeout, out, err)
    done = subprocess.CompletedProcess(list(words), status, out, err)
    if check:
        done.check_returncode()
    return done


class _Zygote:
    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_FAULT")}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=REPO,
            env={**environment, "OPENBLAS_NUM_THREADS": "1"},
        )
        self._codes: dict[int, int] = {}
        self._started: int | None = None
        self._rest = b""
        atexit.register(self._process.kill)

    def fork(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        *,
        code: Code | None,
        supervised: bool,
        **files: Path,
    ) -> int:
        """Start ``tailrace ARGUMENTS``, or ``code``; one that is ``supervised`` ends with the tests.

        ``files`` are its ``stdin`` (else empty), ``out`` and ``err``.
        """
        stdin = self._process.stdin
        assert stdin is not None
        asked: dict[str, Any] = {"argv": list(arguments), "env": dict(environment), "cwd": str(cwd)}
        asked |= {"supervised": supervised, "code": asdict(code) if code else None}
        line = json.dumps(asked | {name: str(file) for name, file in files.items()}) + "\n"
        stdin.write(line.encode())
        while self._started is None:
            self._listen(60)
        pid, self._started = self._started, None
        return pid

    def wait(self, pid: int, within_s: float) -> int | None:
        """Return the exit code of ``pid``; None where it still runs after ``within_s``."""
        deadline = time.monotonic() + within_s
        while pid not in self._codes and (left := deadline - time.monotonic()) > 0:
            self._listen(left)
        return self._codes.get(pid)

    def code(self, pid: int) -> int | None:
        self._listen(0)
        return self._codes.get(pid)

    def _listen(self, wait_s: float) -> None:
        """Take in what the zygote said; no buffer but ours, for ``select`` does not see into another."""
        out = self._process.stdout
        assert out is not None
        while select.select([out], [], [], wait_s)[0]:
            read = os.read(out.fileno(), 65536)
            assert read, "the zygote has died"
            *lines, self._rest = (self._rest + read).split(b"\n")
            for said in map(json.loads, lines):
                if "started" in said:
                    self._started = int(said["started"])
                    self._codes.pop(self._started, None)  # pids come round: not the end of an earlier one
                else:
                    self._codes[said["ended"]] = said["code"]
            wait_s = 0


_one: _Zygote | None = None


def _zygote() -> _Zygote:
    global _one
    if _one is None:
        _one = _Zygote()
    return _one


def serve(parent: int) -> None:
    """Fork on every line of stdin; say on stdout who started and who ended. One line at a time: no buffering."""
    import tailrace.cli  # noqa: F401
    from tailrace.supervisor.processes import end_with

    end_with(parent)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting = b""
    while True:
        readable, _, _ = select.select([0, wake], [], [])
        if wake in readable:
            os.read(wake, 4096)
            _reap()
        if 0 in readable:
            read = os.read(0, 65536)
            if not read:
                return
            waiting += read
            while b"\n" in waiting:
                line, _, waiting = waiting.partition(b"\n")
                _fork(json.loads(line))


def _say(**facts: int) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say(ended=pid, code=os.waitstatus_to_exitcode(status))


def _modules_of(argv: Sequence[str]) -> Sequence[str]:
    from tailrace.cli.commands import COMMANDS

    name = next((word for word in argv if word in COMMANDS), "")
    return (f"tailrace.cli.{COMMANDS[name].module}", *LATE.get(name, ())) if name else ()


def _fork(said: dict[str, Any]) -> None:
    for module in said["code"]["modules"] if said["code"] else _modules_of(said["argv"]):
        import_module(module)
    pid = os.fork()
    if pid:
        _say(started=pid)
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    stdin = os.open(said.get("stdin", os.devnull), os.O_RDONLY)
    out, err = (os.open(said[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) for name in ("out", "err"))
    for target, source in enumerate((stdin, out, err)):
        os.dup2(source, target)
    os.closerange(3, 64)
    os.chdir(said["cwd"])
    os.environ.clear()
    os.environ.update(said["env"])
    code = 1
    try:
        parent = ("--parent", str(os.getppid())) if said["supervised"] else ()
        code = _run([*said["argv"], *parent], said["code"]["text"] if said["code"] else "")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(argv: list[str], text: str) -> int:
    from schemas import faults
    from tailrace.__main__ import main

    faults._PLAN = faults._plan()
    sys.argv = ["-c" if text else "tailrace", *argv]
    try:
        if text:
            exec(compile(text, "<string>", "exec"), {"__name__": "__main__"})
        else:
            main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - it is the end of a process, and must be seen in its log
        import traceback

        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.path[:1] = [str(REPO / folder) for folder in ("emitter", "", "tests/faults")]
    serve(int(sys.argv[1]))
