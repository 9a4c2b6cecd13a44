"""Starts stages by fork: a process that has imported everything once, for starting one costs 2 CPU-seconds else.

What is forked is a whole process of its own: no connection, no thread, no DuckDB is open before the fork. Run as a
script it is the parent of all stages; imported, it is the hand that the tests hold it by.
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[3]


class Forked:
    """As much of ``Popen`` as a test needs, for a process whose parent is the zygote."""

    def __init__(self, arguments: list[str], log: Path, environment: Mapping[str, str]) -> None:
        self.pid = _zygote().fork(arguments, log, environment)
        self.returncode: int | None = None

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

    def fork(self, arguments: list[str], log: Path, environment: Mapping[str, str]) -> int:
        stdin = self._process.stdin
        assert stdin is not None
        line = json.dumps({"argv": arguments, "log": str(log), "env": dict(environment)}) + "\n"
        stdin.write(line.encode())
        while self._started is None:
            self._listen(60)
        pid, self._started = self._started, None
        return pid

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


def _fork(said: dict[str, Any]) -> None:
    pid = os.fork()
    if pid:
        _say(started=pid)
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    out = os.open(said["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    os.closerange(3, 64)
    os.environ.clear()
    os.environ.update(said["env"])
    code = 1
    try:
        code = _run(said["argv"])
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _run(argv: list[str]) -> int:
    from schemas import faults
    from tailrace.__main__ import main

    faults._PLAN = faults._plan()
    sys.argv = ["tailrace", *argv, "--parent", str(os.getppid())]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - it is the end of a process, and must be seen in its log
        import traceback

        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(REPO))
    sys.path.insert(0, str(REPO / "emitter"))
    serve(int(sys.argv[1]))
