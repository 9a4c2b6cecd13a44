"""A log is cut while its process writes on; what is kept is bounded, and its last error is still found."""

from __future__ import annotations

import os
import subprocess
import sys

from tailrace.broker import Broker
from tailrace.home import log_files
from tailrace.settings.model import Settings
from tailrace.supervisor.exits import last_error
from tailrace.supervisor.supervisor import Supervisor

_WRITER = """
import sys
for line in sys.stdin:
    sys.stdout.write(line)
    sys.stdout.flush()
    sys.stderr.write("done\\n")
    sys.stderr.flush()
"""


def test_a_process_writes_on_at_the_beginning_of_a_log_that_was_cut(tmp_path):
    path = tmp_path / "land.log"
    with (
        log_files.appended(path) as out,
        subprocess.Popen(
            [sys.executable, "-c", _WRITER], stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE, text=True
        ) as process,
    ):

        def write(text):
            process.stdin.write(text + "\n")
            process.stdin.flush()
            process.stderr.readline()

        write("old " * 100)
        assert not log_files.cut(path, keep_bytes=1000)
        assert log_files.cut(path, keep_bytes=100)
        write('{"event": "failed", "level": "error", "error": "the disk is full"}')
        process.stdin.close()
    assert path.read_bytes().startswith(b'{"event"')
    assert (tmp_path / "land.log.1").read_text().startswith("old old")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["land.log", "land.log.1"]
    assert "the disk is full" in str(last_error(path, 0))


def test_a_second_cut_replaces_what_the_first_one_kept(tmp_path):
    path = tmp_path / "land.log"
    for text in ("a", "b"):
        path.write_text(text * 200)
        assert log_files.cut(path, keep_bytes=100)
    assert (path.read_text(), (tmp_path / "land.log.1").read_text()) == ("", "b" * 200)


def test_a_log_that_cannot_be_copied_is_emptied_all_the_same(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log_files.shutil, "copyfile", full)
    path = tmp_path / "land.log"
    path.write_text("a" * 200)
    assert log_files.cut(path, keep_bytes=100)
    assert [(p.name, p.stat().st_size) for p in tmp_path.iterdir()] == [("land.log", 0)]


def test_a_log_that_is_not_there_is_left_alone(tmp_path):
    assert not log_files.cut(tmp_path / "none.log", keep_bytes=0)


def test_the_log_of_the_embedded_broker_is_cut_while_it_runs(tmp_path):
    supervisor = Supervisor(Settings(home=tmp_path), "127.0.0.1:1", stages=())
    path = Broker(tmp_path).log_file
    path.parent.mkdir()
    path.touch()
    os.truncate(path, log_files.KEEP_BYTES + 1)
    supervisor.look()
    assert path.stat().st_size > 0, "a broker of others is left alone"
    supervisor.broker_pid = os.getppid()
    supervisor.look()
    assert (path.stat().st_size, path.with_suffix(".log.1").stat().st_size) == (0, log_files.KEEP_BYTES + 1)
