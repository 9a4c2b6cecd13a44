"""What ``status`` shows, from run files alone."""

import os
import subprocess

import pytest
from fault_harness.zygote import run_command

from pipelines.clock import now_us
from tailrace.cli.render.status import duration, lines
from tailrace.home.layout import Home
from tailrace.monitor.status import status
from tailrace.settings.model import Settings
from tailrace.supervisor.stages import STAGES
from warehouse.storage.locks import process_start_time

DETECT = tuple(stage for stage in STAGES if stage.name == "detect")
EXIT = {"at": "2026-11-29T18:07:58+00:00", "reason": "killed by SIGSEGV", "error": "Fatal Python error"}


@pytest.fixture
def write(tmp_path):
    """Write the run files of a supervisor and of detect, both of this process unless given otherwise."""
    home, me = Home(tmp_path), {"pid": os.getpid(), "born": process_start_time(os.getpid())}

    def write(known=None, facts=None, **more):
        up = {**me, "at": now_us(), "bootstrap_servers": "k:1", "web": None, "stages": {"detect": known or {}}}
        home.write_run("up", up)
        report = {**me, "at": now_us(), "state": "running", "error": None, "facts": {"lag": 0, **(facts or {})}}
        home.write_run("detect", {**report, **more})
        return status(Settings(home=tmp_path), stages=DETECT)

    return write


def test_a_stage_that_runs_is_ready_and_its_document_has_the_keys_of_the_design(write):
    found = write()
    assert found["ready"]
    assert set(found) == {"ready", "healthy", "kafka", "lake", "costs", "learning", "disk", "web", "stages"}
    detect = found["stages"]["detect"]
    assert {"state", "pid", "lag", "restarts", "error"} <= set(detect)
    assert (detect["state"], detect["behind_s"], detect["done_in_s"]) == ("running", 0.0, None)


def test_a_failing_stage_is_never_ready_whatever_its_newest_process_says(write):
    failing = {"position": "llm.rollups[0]@1807", "ends": 11, "since": 1, "cause": "no progress for 61 s"}
    found = write({"restarts": 11, "failing": failing, "last_exit": EXIT})
    assert not found["ready"]
    detect = found["stages"]["detect"]
    assert detect["state"] == "failing"
    assert detect["error"] == "ended 11 times at llm.rollups[0]@1807: no progress for 61 s: Fatal Python error"


def test_a_stage_that_is_behind_says_how_far_and_until_when(write):
    samples = [{"at": 0.0, "lag": 1, "behind_s": 7200.0}, {"at": 60.0, "lag": 1, "behind_s": 3600.0}]
    found = write({"samples": samples}, {"lag": 1, "event_time": now_us() - 3_600_000_000})["stages"]["detect"]
    assert found["behind_s"] == pytest.approx(3600, abs=5)
    assert found["done_in_s"] == pytest.approx(60)


def test_a_stage_that_is_days_behind_is_healthy_and_not_ready(write):
    samples = [{"at": 0.0, "lag": 1, "behind_s": 5 * 86_400.0}, {"at": 60.0, "lag": 1, "behind_s": 4 * 86_400.0}]
    found = write({"samples": samples}, {"lag": 1, "event_time": now_us() - 4 * 86_400_000_000})
    assert (found["ready"], found["healthy"]) == (False, True)
    assert found["stages"]["detect"]["state"] == "running"
    assert found["stages"]["detect"]["current"] is False
    text = list(lines(found, width=80))
    assert text[0].startswith("not ready")
    assert "  behind by 4 d, done in about 4 min" in text


@pytest.mark.parametrize(
    ("behind_s", "lags", "ready"),
    [
        (299, [1, 1, 1], True),
        (301, [1, 1, 1], False),
        (301, [], False),
        (86_400, [9, 0, 1, 1], True),
        (86_400, [0, 1, 1, 1, 1], False),
    ],
    ids=["a little", "five minutes", "no history yet", "nothing waited a moment ago", "nothing waited 20 s ago"],
)
def test_ready_is_a_stage_that_works_on_the_present(write, behind_s, lags, ready):
    samples = [{"at": 5.0 * i, "lag": lag, "behind_s": None} for i, lag in enumerate(lags)]
    found = write({"samples": samples}, {"lag": 1, "event_time": now_us() - behind_s * 1_000_000 + 500_000})
    assert found["ready"] is ready
    assert found["stages"]["detect"]["current"] is ready


def test_a_supervisor_whose_pid_another_process_has_is_stopped_and_not_restarting(write, tmp_path):
    with subprocess.Popen(["true"]) as gone:
        pass
    write(pid=gone.pid, born=1)
    up = Home(tmp_path).read_run("up")
    Home(tmp_path).write_run("up", {**up, "born": up["born"] - 1})  # this very pid, of a process before it
    found = status(Settings(home=tmp_path), stages=DETECT)
    assert not found["ready"]
    detect = found["stages"]["detect"]
    assert detect["state"] == "stopped"
    assert detect["error"] == f"it was killed: by hand, or with its supervisor, process {os.getpid()}"


def test_a_stage_whose_pid_another_process_has_is_restarting_with_the_reason_of_its_end(write):
    found = write({"last_exit": EXIT, "restarts": 1}, born=process_start_time(os.getpid()) - 1)["stages"]["detect"]
    assert (found["state"], found["pid"]) == ("restarting", None)
    assert found["error"] == "killed by SIGSEGV: Fatal Python error"


@pytest.mark.parametrize(("age_s", "state"), [(1, "running"), (60, "stopped")])
def test_a_home_of_another_container_is_judged_by_the_age_of_its_reports(write, tmp_path, age_s, state):
    write()
    home = Home(tmp_path)
    for name in ("up", "detect"):
        report = {**home.read_run(name), "pid_namespace": 1, "pid": 1, "born": 1, "at": now_us() - age_s * 1_000_000}
        home.write_run(name, report)
    assert status(Settings(home=tmp_path), stages=DETECT)["stages"]["detect"]["state"] == state


def test_a_stage_that_stopped_in_order_needs_no_reason(tmp_path):
    Home(tmp_path).write_run("detect", {"pid": 1, "born": 1, "at": 1, "state": "stopped", "error": None, "facts": {}})
    detect = status(Settings(home=tmp_path), stages=DETECT)["stages"]["detect"]
    assert (detect["state"], detect["error"]) == ("stopped", None)


def test_status_exits_with_1_where_it_is_not_ready(tmp_path):
    environment = {**os.environ, "TAILRACE_HOME": str(tmp_path)}
    for more in ([], ["--json"]):
        assert run_command(["status", *more], env=environment).returncode == 1


@pytest.mark.parametrize("width", [80, 60])
def test_the_table_fits_and_a_strangers_text_moves_no_cursor(write, width):
    failing = {"position": "llm.rollups[0]@1807", "ends": 3, "since": 1, "cause": "x " * 200 + "\x1b[2J\n"}
    found = write({"restarts": 1234, "failing": failing}, {"lag": 123_456_789, "event_time": 0})
    text = list(lines(found, width=width))
    assert text[0].startswith("not ready")
    assert max(map(len, text[3:])) <= max(width, 75)
    assert all(line.isprintable() for line in text)
    assert any("not known yet" in line for line in text)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(40, "40 s"), (119.6, "2 min"), (11_400, "3 h 10 min"), (7200, "2 h"), (1_137_600, "13 d 4 h"), (864_000, "10 d")],
)
def test_a_span_is_told_in_its_two_largest_units(seconds, words):
    assert duration(seconds) == words


def test_the_share_of_reported_costs_that_differ_is_shown_once_there_are_some(write, tmp_path):
    assert write()["costs"] == {"compared": 0, "differing": 0, "differing_share": None}
    assert not any("reported costs" in line for line in lines(write(), width=80))
    usage = {"calls": [["bot", "m", "500", None, "1", "2", "3", None, "30", "400", "400"]]}
    Home(tmp_path).write_run("land", {"pid": 1, "born": 1, "facts": {"usage": usage}})
    found = write()
    assert found["costs"] == {"compared": 400, "differing": 30, "differing_share": 0.075}
    assert "costs   7.5% of 400 reported costs are more than 1 % off the computed ones" in list(lines(found, width=80))


def test_the_share_of_series_that_are_still_learning_is_shown(write):
    assert write()["learning"] == {"series": 0, "learning": 0, "learning_share": None}
    found = write(facts={"learning": {"series": 1200, "learning": 150}})
    assert found["learning"] == {"series": 1200, "learning": 150, "learning_share": 0.125}
    assert "series  12.5% of 1,200 are still learning what is usual" in list(lines(found, width=80))
