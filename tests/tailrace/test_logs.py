"""Libraries repeat themselves; the log does not."""

import logging

from tailrace.logs import _RepeatFilter


def test_lines_that_differ_in_their_numbers_only_come_once_in_ten_seconds_and_are_counted():
    at = [0.0]
    sparing = _RepeatFilter(lambda: at[0])

    def said(text: str, name: str = "librdkafka") -> str | None:
        record = logging.LogRecord(name, logging.ERROR, "", 0, text, (), None)
        return record.getMessage() if sparing.filter(record) else None

    assert said("FAIL 127.0.0.1:9092 refused (after 3ms)") == "FAIL 127.0.0.1:9092 refused (after 3ms)"
    assert [said(f"FAIL 127.0.0.1:9092 refused (after {n}ms)") for n in range(50)] == [None] * 50
    assert said("another thing") == "another thing"
    assert said("FAIL 127.0.0.1:9092 refused (after 3ms)", "aiokafka") is not None
    at[0] = 11.0
    again = said("FAIL 127.0.0.1:9092 refused (after 7ms)")
    assert again == "FAIL 127.0.0.1:9092 refused (after 7ms) (50 like it held back)"
    assert said("%d made wrongly") == "%d made wrongly"
    broken = logging.LogRecord("librdkafka", logging.ERROR, "", 0, "offset %d", ("x",), None)
    assert sparing.filter(broken), "the handler tells it"
    for n in range(600):
        assert said(f"{chr(97 + n % 26)}{chr(97 + n // 26)} made up without end") is not None
