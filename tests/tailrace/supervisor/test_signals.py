"""A signal that comes at the worst moment ends a process all the same."""

import signal
import subprocess
import sys

import pytest

WORST = """
import os, signal
from tailrace.supervisor.signals import on_stop_signals
stop = on_stop_signals()
with stop._cond:  # as between two steps of `wait`, or of the handler itself
    os.kill(os.getpid(), signal.SIGTERM)
    for _ in range(1000):
        pass
print(stop.is_set(), stop.name)
"""
TWICE = """
import os, sys
from tailrace.supervisor.signals import on_stop_signals
stop = on_stop_signals()
os.kill(os.getpid(), int(sys.argv[1]))
os.kill(os.getpid(), 15)
print(stop.wait(5), stop.name)
"""


def printed(script, *arguments):
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_signal_that_interrupts_the_wait_or_its_own_handler_ends_in_no_deadlock():
    assert printed(WORST) == "True SIGTERM\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_the_one_that_is_named(number):
    assert printed(TWICE, str(int(number))) == f"True {number.name}\n"
