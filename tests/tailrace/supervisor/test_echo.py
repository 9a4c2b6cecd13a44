"""What stages write into their logs appears on stdout, in whole lines, once."""

import io

import pytest

from tailrace.supervisor.echo import Echo


@pytest.fixture
def log(tmp_path):
    return tmp_path / "land.log"


def append(log, text):
    with log.open("a") as file:
        file.write(text)


def test_whole_lines_are_copied_once_and_half_ones_wait(log):
    append(log, "of an earlier process\n")
    out = io.BytesIO()
    echo = Echo([log], out)
    append(log, "one\ntw")
    echo.look()
    assert out.getvalue() == b"one\n"
    append(log, "o\n")
    echo.look()
    echo.close()
    assert out.getvalue() == b"one\ntwo\n"


def test_a_log_that_is_made_later_or_moved_away_is_followed(log):
    out = io.BytesIO()
    echo = Echo([log], out)
    echo.look()
    append(log, "a\n")
    echo.look()
    append(log, "b\n")
    log.rename(log.with_suffix(".log.1"))
    append(log, "c\n")
    echo.look()
    echo.look()
    echo.close()
    assert out.getvalue() == b"a\nb\nc\n"


def test_a_reader_that_is_gone_stops_nothing(log):
    class Gone(io.BytesIO):
        def write(self, _):
            raise BrokenPipeError

    append(log, "")
    echo = Echo([log], Gone())
    append(log, "a\n")
    echo.look()
    echo.close()
