"""Whether a topic and its logs are the ones that were read before."""

import pytest

from pipelines.kafka import LogTruncatedError, TopicReplacedError
from pipelines.kafka.identity import (
    WINDOW,
    LastRecord,
    changed_ends,
    find_truncations,
    is_same_topic,
    require_not_beyond_end,
    require_same_topics,
    shared_end,
)
from schemas.records import Records


def times(first, last, later=0):
    """Offset -> time of the records first..last, ``later`` of them made anew."""
    return {n: n * 10 + (1_000 if n > last - later else 0) for n in range(first, last + 1)}


@pytest.mark.parametrize(
    ("log", "lake", "upto", "high", "end"),
    [
        (times(84, 99), times(84, 99), 100, 100, 100),  # whole
        (times(84, 99), times(84, 99), 100, 500, 100),  # whole, with more behind it
        (times(84, 94), times(84, 99), 100, 95, 95),  # shorter
        (times(84, 99, later=5), times(84, 99), 100, 100, 95),  # as long again
        (times(84, 99, later=5), times(84, 99), 100, 300, 95),  # longer
        (times(84, 96, later=2), times(84, 99), 100, 97, 95),  # grown a little
        ({n: n * 10 for n in (90, 92)}, times(84, 99), 100, 100, 100),  # markers between the records
        ({n: n * 10 for n in (84, 88)}, times(84, 99), 100, 93, 89),  # markers at the end of what is left
        (times(84, 99), {}, 100, 100, None),  # nothing landed here that could be compared
        ({}, times(84, 99), 100, 60, None),  # cut far before
        (times(84, 99, later=16), times(84, 99), 100, 300, None),  # all of it other records
    ],
)
def test_the_end_of_what_they_share(log, lake, upto, high, end):
    assert shared_end(log, lake, upto, high) == end


class Log:
    """A source of one partition that returns a log, and records the requests."""

    def __init__(self, log):
        self.log, self.next, self.held = log, {}, []

    def assign(self, positions):
        self.next = dict(positions)

    def positions(self):
        return dict(self.next)

    def poll(self, wait_s):
        ((topic, partition), start), end = next(iter(self.next.items())), max(self.log) + 1
        offsets = [offset for offset in range(start, min(end, start + 50_000)) if offset in self.log]
        upto = min(end, start + 50_000)
        self.held.append(upto - start)
        self.next = {(topic, partition): upto}
        n, times = len(offsets), [self.log[offset] for offset in offsets]
        return [
            Records(
                topic, [partition] * n, offsets, times, [None] * n, [None] * n, [()] * n, {partition: (start, upto)}
            )
        ]


AT = ("llm.events", 0)


@pytest.mark.parametrize(
    ("shared", "high", "cut"),
    [
        (100, 300_000, {AT: 100}),  # another log from 100 on, that has grown past the ledger
        (250_000, 250_000, {}),  # the same log, of which the lake has only the first thousand rows
        (250_000, 200_000, {AT: 1_000}),  # and cut: the last position known to be shared
        (0, 300_000, {AT: 0}),  # not one position is shared
    ],
)
def test_a_log_that_shares_only_far_positions_is_compared_in_windows(shared, high, cut):
    upto = 250_000
    source = Log({n: n * 10 + (n >= shared) for n in range(high)})
    rows = 1_000 if shared == upto else upto
    windows = []

    def landed(topic, spans):
        windows.append(spans[0])
        return {0: {n: n * 10 for n in range(*spans[0]) if n < rows}}

    assert find_truncations(source, landed, {AT: upto}, {AT: (0, high)}) == cut
    assert max(b - a for a, b in windows) == WINDOW
    assert [b for _, b in windows] == [upto, *(a for a, _ in windows[:-1])], "no window is read twice"


@pytest.mark.parametrize(
    ("recorded", "current", "same"),
    [("", "new", True), ("old", "old", True), ("old", "new", False)],
)
def test_a_topic_is_the_same_while_its_id_is(recorded, current, same):
    assert is_same_topic(recorded, current) is same
    if same:
        require_same_topics({"llm.events": recorded}, {"llm.events": current})
        return
    with pytest.raises(TopicReplacedError, match=r"its id was old, now it is new.*topics adopt llm.events"):
        require_same_topics({"llm.events": recorded}, {"llm.events": current})


def test_a_topic_whose_id_was_never_recorded_is_not_compared():
    require_same_topics({}, {"llm.events": "new"})


def test_an_offset_beyond_the_end_of_its_log_is_refused_with_both_offsets():
    marks = {AT: (0, 90), ("llm.log", 1): (0, 50)}
    require_not_beyond_end({AT: 90, ("llm.log", 1): 7}, marks)
    require_not_beyond_end({("llm.other", 0): 7}, marks)
    with pytest.raises(LogTruncatedError, match=r"llm.events\[0\]: it was read up to offset 100, .* ends at 90"):
        require_not_beyond_end({AT: 100, ("llm.log", 1): 50}, marks)


@pytest.mark.parametrize(
    ("last", "ends"),
    [
        (LastRecord(100, 990), {}),  # the record before the offset is the one that was read
        (LastRecord(100, 991), {AT: 99}),  # another one is there
        (LastRecord(100, None), {}),  # its time was not recorded: the log is long enough
        (LastRecord(201, 5), {AT: 200}),  # the log is shorter
        (LastRecord(151, 1_500), {}),  # a transaction marker there, which has no time to compare
        (LastRecord(151, 1_500, always_a_record=True), {AT: 150}),  # a record was there: this is another log
        (LastRecord(10, 5), {}),  # retention took what was there
    ],
)
def test_the_last_record_that_was_read_tells_another_log(last, ends):
    source = Log({n: n * 10 for n in range(200) if n != 150})
    assert changed_ends(source, {AT: last}, {AT: (10, 200)}) == ends
