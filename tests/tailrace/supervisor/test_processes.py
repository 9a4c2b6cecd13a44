"""Parents that end, orphans, and pids that are used again."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tailrace.supervisor import processes
from warehouse.storage.locks import is_running, process_start_time

CHILD = """
import sys, time
from tailrace.supervisor import processes
if sys.argv[2] == "without the kernel":
    processes._tied_by_the_kernel = lambda: False
processes.end_with(int(sys.argv[1]))
print("tied", flush=True)
time.sleep(600)
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def in_time(found, within_s=20):
    deadline = time.monotonic() + within_s
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("how", ["by the kernel", "without the kernel"])
def test_a_child_ends_with_its_parent(how):
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    in_time(lambda: not is_running(child))


def test_an_orphan_is_known_by_the_pid_that_was_handed_to_it_and_says_why_it_ends():
    command = [sys.executable, "-c", CHILD, "1", "by the kernel"]  # its parent is not process 1
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "parent_ended" in done.stdout + done.stderr


def test_a_pid_that_another_process_has_by_now_is_not_alive():
    with subprocess.Popen(["sleep", "60"]) as process:
        born = process_start_time(process.pid)
        assert is_running(process.pid)
        assert is_running(process.pid, born)
        assert not is_running(process.pid, born - 1)
        process.kill()
        in_time(lambda: not is_running(process.pid))  # ended, although not reaped yet
    assert process_start_time(process.pid) is None


def test_only_process_1_reaps_and_what_somebody_waits_for_is_left(monkeypatch):
    with subprocess.Popen(["true"]) as own, subprocess.Popen(["true"]) as adopted:
        in_time(lambda: state(own.pid) == state(adopted.pid) == "Z")
        processes.reap({own.pid})
        assert state(adopted.pid) == "Z", "this is not process 1"
        monkeypatch.setattr(os, "getpid", lambda: 1)
        for _ in range(2):
            processes.reap({own.pid})
        assert state(own.pid) == "Z"
        assert own.wait() == 0
        processes.reap(())
        assert not Path(f"/proc/{adopted.pid}").exists()
        assert adopted.wait() == 0  # its exit code was reaped elsewhere: subprocess reports 0


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
