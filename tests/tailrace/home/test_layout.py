import subprocess
import sys
import textwrap
import threading

import pytest

from schemas.stage_facts import StageFacts
from tailrace.home import layout as module
from tailrace.home.layout import Heartbeat, Home


def test_a_stage_that_still_imports_is_heard_until_it_speaks_itself(tmp_path):
    home = Home(tmp_path)
    clock = iter(range(1000))
    heartbeat = Heartbeat(home, "land", lambda: next(clock))
    ended = threading.Event()
    thread = threading.Thread(target=heartbeat.while_starting, args=(ended,))
    thread.start()
    while home.read_run("land") is None:
        thread.join(0.05)
    assert home.read_run("land")["state"] == "starting"
    heartbeat(StageFacts(lag=3, progress=0))
    thread.join(10)
    assert not thread.is_alive()
    heartbeat.write("running")
    assert home.read_run("land")["facts"] == {"state": "running", "error": None, "lag": 3, "progress": 0}


def test_the_voice_of_a_start_that_never_ends_falls_silent(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STARTING_S", -1.0)
    heartbeat = Heartbeat(Home(tmp_path), "land", lambda: 0)
    ended = threading.Event()
    thread = threading.Thread(target=heartbeat.while_starting, args=(ended,))
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert not heartbeat.has_reported.is_set()


@pytest.mark.row(18)
def test_a_full_disk_silences_no_beat_and_stops_nobody(tmp_path):
    Home(tmp_path).write_run("land", {"pid": 1, "at": 1})
    before = Home(tmp_path).last_heartbeat_ns("land")
    script = """
        import resource, sys, time
        from pathlib import Path
        from schemas.stage_facts import StageFacts
        from tailrace.home.layout import Heartbeat, Home

        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # no file may grow: what a full disk does to a writer
        beat = Heartbeat(Home(Path(sys.argv[1])), "land", lambda: 2)
        for lag in range(3):
            beat(StageFacts(lag=lag, progress=0))
            beat.write("running")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert (ran.stdout + ran.stderr).count("run_file_not_written") == 1
    assert Home(tmp_path).read_run("land") == {"pid": 1, "at": 1}
    assert Home(tmp_path).last_heartbeat_ns("land") > before
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["land.json"]
