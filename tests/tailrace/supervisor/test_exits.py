import signal

import pytest

from tailrace.supervisor.exits import Exit, last_error


@pytest.mark.parametrize(
    ("code", "stalled_s", "name", "reason"),
    [
        (-signal.SIGSEGV, None, "SIGSEGV", "killed by SIGSEGV"),
        (-signal.SIGKILL, None, "SIGKILL", "killed by SIGKILL, not by tailrace: out of memory, or by hand"),
        (-signal.SIGKILL, 61.2, "SIGKILL", "no progress for 61 s: killed by the supervisor"),
        (-63, None, "signal 63", "killed by signal 63"),
        (2, None, None, "exit code 2"),
        (0, None, None, "exit code 0: asked to stop, and not by its supervisor"),
    ],
)
def test_why_a_stage_ended_is_said_in_words(code, stalled_s, name, reason):
    ended = Exit(7, 1_000_000, 3.0, code, stalled_s)
    assert ended.signal == name
    assert ended.reason == reason
    assert ended.facts()["exit_code"] == (code if code >= 0 else None)


TRACEBACK = """Traceback (most recent call last):
  File "x.py", line 1, in <module>
ValueError: the text of a call
"""
FATAL = '{"error": "notify runs already", "kind": "StageRunsError", "event": "fatal", "level": "error"}\n'
WARNING = '{"event": "stage_failed", "level": "warning"}\n'


@pytest.mark.parametrize(
    ("written", "error", "kind"),
    [
        (TRACEBACK, "ValueError: the text of a call", "ValueError"),
        (FATAL + "Fatal Python error: Aborted\n\nCurrent thread\n", "Fatal Python error: Aborted", ""),
        ("tailrace: setting x: wrong\n" + FATAL, "notify runs already", "StageRunsError"),
        ("tailrace: setting x: wrong\n", "setting x: wrong", ""),
        ('{"event": "log_cut", "topic": "t", "level": "error"}\n' + WARNING, "log_cut", ""),
        ("{\n[1]\nnot json {\n", "", ""),
        (WARNING, "", ""),
        ("", "", ""),
    ],
)
def test_the_last_error_line_of_its_own_life_is_found(tmp_path, written, error, kind):
    log = tmp_path / "land.log"
    before = b"MemoryError: of the life before\n"
    log.write_bytes(before + written.encode())
    assert last_error(log, len(before)) == (error, kind)


def test_an_error_line_is_cut_and_cannot_write_on_a_terminal(tmp_path):
    log = tmp_path / "land.log"
    log.write_text("ValueError: \x1b[31m" + "x" * 10_000 + "\n")
    found, _ = last_error(log, 0)
    assert len(found) == 300
    assert "\x1b" not in found


def test_of_a_log_of_gigabytes_only_the_end_is_read(tmp_path):
    log = tmp_path / "land.log"
    log.write_text("MemoryError\n" + "noise\n" * 20_000)
    assert last_error(log, 0) == ("", "")
    assert last_error(tmp_path / "absent.log", 0) == ("", "")
