"""A process between the owner of a broker and its JVM: when one of them ends, the other one ends too.

A child of the owner and the parent of the JVM, run as a bare script (standard library only, 9 MB):

- the owner ends, however it ends: the pipe on stdin closes (or, where a forked child of the owner still
  holds the pipe, the parent's pid changes), and the JVM is stopped;
- this process ends, even by SIGKILL: PR_SET_PDEATHSIG ends the JVM. The owner could not rely on that
  signal itself, for it is bound to the thread that forked, not to the process;
- the lock of the home folder is an inherited descriptor that the JVM keeps open on purpose: the folder is free exactly
when no process can write to it any more.

Usage: guard.py OWNER_PID LOCK_FD COMMAND... Prints the JVM's pid; the JVM's output goes to stderr. The owner passes its
    own pid, because in a container without an init process 1 is no sign of an orphan.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
STOP_GRACE_S = 8.0
LOOK_EVERY_S = 0.25


def main(owner: int, lock_fd: int, command: list[str]) -> int:
    """Run ``command`` until it ends or the process ``owner`` has ended; return its exit code."""
    me = os.getpid()
    # a Ctrl-C in the terminal is for the owner, which then stops us in its own time
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os.close(0))

    def tie_to_guard() -> None:
        os.umask(0o077)
        with contextlib.suppress(OSError, AttributeError):  # not on macOS: there the pipe is all there is
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != me:
            os._exit(1)

    jvm = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, pass_fds=(lock_fd,), preexec_fn=tie_to_guard
    )
    sys.stdout.write(f"{jvm.pid}\n")
    sys.stdout.flush()
    while jvm.poll() is None and _owner_is_running(owner):
        pass
    return _stop(jvm)


def _owner_is_running(owner: int) -> bool:
    """Wait briefly; False once the pipe has closed or the owner has ended."""
    try:
        readable, _, _ = select.select([0], [], [], LOOK_EVERY_S)
        if readable and not os.read(0, 1):
            return False
    except OSError:  # stdin was closed by SIGTERM
        return False
    return os.getppid() == owner


def _stop(jvm: subprocess.Popen[bytes]) -> int:
    if jvm.poll() is None:
        jvm.terminate()
        jvm.send_signal(signal.SIGCONT)  # a paused JVM does not handle SIGTERM
        try:
            return jvm.wait(STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            jvm.kill()
    return jvm.wait()


if __name__ == "__main__":
    sys.exit(abs(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])))
