"""One home, one supervisor; one copy of a stage that a second copy would double."""

import os
import subprocess
import sys

import pytest
from fault_harness.zygote import run_command

from tailrace.home.layout import Home
from tailrace.supervisor.ownership import HomeInUseError, StageRunsError, owned_home, owned_stage

HOLD = """
import sys, time
from pathlib import Path
from tailrace.home.layout import Home
from tailrace.supervisor.ownership import owned_home, owned_stage
home = Home(Path(sys.argv[1]))
with owned_home(home), owned_stage(home, "notify", "x"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def tailrace(home, *arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")}
    # brokers elsewhere: there is no lock of an embedded one
    environment = {**clean, "TAILRACE_HOME": str(home), "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    return run_command(arguments, env=environment)


def test_a_second_up_on_one_home_is_refused_by_name_also_with_brokers_elsewhere(holder, tmp_path):
    done = tailrace(tmp_path, "up", "--no-web")
    assert done.returncode == 2
    first = done.stderr.splitlines()[0]
    assert f"another `tailrace up` runs on {tmp_path}: process {holder.pid}" in first
    assert "another --home" in first
    assert "Traceback" not in done.stderr


def test_a_second_notify_on_one_home_is_refused_and_leaves_the_first_ones_report_alone(holder, tmp_path):
    Home(tmp_path).write_run("notify", {"pid": holder.pid, "state": "running"})
    done = tailrace(tmp_path, "notify")
    assert done.returncode == 2
    first = done.stderr.splitlines()[0]
    assert f"notify runs already on {tmp_path}: process {holder.pid}; every alert would be sent twice" in first
    assert Home(tmp_path).read_run("notify") == {"pid": holder.pid, "state": "running"}


def test_a_killed_holder_leaves_its_files_and_no_lock(holder, tmp_path):
    holder.kill()
    with owned_home(Home(tmp_path)), owned_stage(Home(tmp_path), "notify", "x"):  # waits for it to end
        assert (tmp_path / "run" / "up.lock").read_text() == str(os.getpid())


def test_what_holds_them_is_named(holder, tmp_path):
    with pytest.raises(HomeInUseError) as home, owned_home(Home(tmp_path)):
        pass
    with pytest.raises(StageRunsError) as stage, owned_stage(Home(tmp_path), "notify", "x"):
        pass
    assert home.value.pid == stage.value.pid == str(holder.pid)


def test_a_stage_that_looks_after_itself_is_not_locked(holder, tmp_path):
    with owned_stage(Home(tmp_path), "notify", ""), owned_stage(Home(tmp_path), "schedule", ""):
        assert not (tmp_path / "run" / "schedule.lock").exists()
