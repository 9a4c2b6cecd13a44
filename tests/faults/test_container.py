"""A container without an init: ``tailrace up`` is process 1, and everything it starts belongs to it."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_harness.process import wait_until
from fault_harness.receiver import Receiver
from fault_harness.scene import Scene
from fault_harness.whole import Up, descendants, gone

pytestmark = pytest.mark.faults
ENDED_S = 10.0
_UNSHARE = ("unshare", "--pid", "--fork", "--mount-proc")


@pytest.fixture
def contained(tmp_path: Path, receiver: Receiver) -> Iterator[Up]:
    """``up`` as process 1 of a PID namespace of its own."""
    try:
        tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no PID namespace: there is no `unshare` here (util-linux)")
    if tried.returncode:
        pytest.skip(f"no PID namespace: this machine does not permit one ({tried.stderr.strip()})")
    running = Up(tmp_path / "home", receiver.settings, within=_UNSHARE)
    yield running
    for pid in descendants(running.process.pid)[:1] if running.process.poll() is None else ():
        os.kill(pid, signal.SIGKILL)  # the kernel ends a namespace with its process 1
    running.close()


def zombies(of: int) -> list[int]:
    """Children of a process that have ended and were not reaped."""
    children = Path(f"/proc/{of}/task/{of}/children").read_text().split()
    return [int(c) for c in children if Path(f"/proc/{c}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"]


@pytest.mark.row(11)
@pytest.mark.timeout(600)
def test_as_process_1_all_stages_run_an_event_lands_orphans_are_reaped_and_sigterm_ends_all(
    contained: Up, scenes: Callable[..., Scene]
) -> None:
    first = wait_until(lambda: descendants(contained.process.pid), 20, "process 1", contained.tail)[0]
    contained.enter = ("nsenter", "--pid", "--mount", "--target", str(first))
    ready = contained.ready()
    assert {stage["state"] for stage in ready["stages"].values()} == {"running"}
    assert {stage["restarts"] for stage in ready["stages"].values()} == {0}
    scene = scenes(ready["kafka"]["bootstrap_servers"], home=contained.home, prefix="", partitions=4)
    scene.traffic.good(20)
    scene.settle(90)

    # drift's model is a process of its own: it outlives a killed drift for a moment, as an orphan of process 1
    inside = ready["stages"]["drift"]["pid"]
    contained.run("kill", "-KILL", str(inside))

    def again() -> bool:
        drift = contained.status()["stages"]["drift"]
        return drift["state"] == "running" and drift["last_exit"]["signal"] == "SIGKILL"

    wait_until(again, 120, "drift is back, and status says why it ended", contained.tail)
    assert f'"pid": {inside}, "reason": "killed by SIGKILL' in (contained.home / "logs" / "drift.log").read_text()
    wait_until(lambda: not zombies(first), 10, "no process stays unreaped")

    everything = [first, *descendants(first)]
    assert len(everything) >= 8
    os.kill(first, signal.SIGTERM)
    assert contained.process.wait(ENDED_S) == 0, contained.tail()
    assert gone(everything)
