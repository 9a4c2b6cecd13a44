"""Ranges of positions without a record, out of the positions that a batch covers."""

from hypothesis import given
from hypothesis import strategies as st

from pipelines.land import no_record
from schemas.records import Move, Records

E = "llm.events"


def batch(offsets, start, end, partition=0):
    n = len(offsets)
    return Records(E, [partition] * n, offsets, [0] * n, [None] * n, [b""] * n, [()] * n, {partition: (start, end)})


def spans(records):
    return [(m.start, m.end) for m in no_record.ranges(records)]


def test_markers_between_and_behind_records_are_ranges():
    assert spans(batch([0, 2, 4], 0, 6)) == [(1, 2), (3, 4), (5, 6)]
    assert spans(batch([5, 6], 2, 7)) == [(2, 5)]
    assert spans(batch([], 2, 7)) == [(2, 7)]
    assert spans(batch([2, 3, 4], 2, 5)) == []


def test_a_batch_whose_positions_all_have_records_lands_no_ranges():
    assert no_record.rows(batch([3, 4], 3, 5), epoch=0, landed_at=0) == {}
    (table,) = no_record.rows(batch([3, 5], 3, 6), epoch=2, landed_at=86_400_000_000).values()
    (row,) = table.to_pylist()
    assert (row["topic"], row["_epoch"], row["_partition"], row["from_offset"], row["to_offset"]) == (E, 2, 0, 4, 5)
    assert str(row["day"]) == "1970-01-02"


def test_partitions_are_told_apart():
    records = Records(
        E, [1, 0, 1], [7, 3, 9], [0] * 3, [None] * 3, [b""] * 3, [()] * 3, {0: (3, 4), 1: (6, 10), 2: (0, 1)}
    )
    assert list(no_record.ranges(records)) == [Move(E, 1, 6, 7), Move(E, 1, 8, 9), Move(E, 2, 0, 1)]


@given(st.sets(st.integers(0, 60)), st.integers(1, 60))
def test_records_and_ranges_cover_every_position_once_also_after_a_split(offsets, cut):
    table = no_record.rows(batch(sorted(offsets), 0, 61), epoch=0, landed_at=0)
    moves = ([Move(E, 0, 0, cut)], [Move(E, 0, cut, 61)])
    covered = sorted(offsets)
    for ranges in table.values():
        for part in (no_record.within(ranges, moves[0]), no_record.within(ranges, moves[1])):
            for row in part.to_pylist():
                covered += range(row["from_offset"], row["to_offset"])
    assert sorted(covered) == list(range(61))
