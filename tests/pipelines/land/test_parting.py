"""Where a log and what landed of it part."""

import pytest

from pipelines.land.parting import WINDOW, partings, shared_end
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

    assert partings(source, landed, {AT: upto}, {AT: (0, high)}) == cut
    assert max(b - a for a, b in windows) == WINDOW
    assert [b for _, b in windows] == [upto, *(a for a, _ in windows[:-1])], "no window is read twice"
