"""Where a log and what landed of it part."""

import pytest

from pipelines.land.parting import shared_end


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
