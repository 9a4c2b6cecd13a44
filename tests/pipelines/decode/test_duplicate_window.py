"""Duplicates are a function of the log alone: batches, restarts and repeated batches change nothing."""

from __future__ import annotations

import json
import random
import uuid

import pytest

from pipelines.decode import SPAN, DuplicateWindow, DuplicateWindowLostError, decode, decode_metered


def test_an_id_is_a_duplicate_within_the_span_and_not_beyond():
    seen = DuplicateWindow()
    assert not seen.mark(0, 10, 1)
    assert seen.mark(0, 10 + SPAN, 1)
    assert not seen.mark(0, 11 + 2 * SPAN, 1)


def test_a_chain_of_repeats_is_one_chain_of_duplicates():
    seen = DuplicateWindow()
    assert [seen.mark(0, i * SPAN, 7) for i in range(4)] == [False, True, True, True]


def test_partitions_do_not_know_each_other():
    seen = DuplicateWindow()
    assert not seen.mark(0, 0, 1)
    assert not seen.mark(1, 5, 1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.row(44)
def test_marks_equal_a_plain_reading_of_the_log_with_restarts_and_repeated_batches(seed):
    draw = random.Random(seed)
    offsets = sorted(draw.sample(range(6 * SPAN), 3000))
    log = [(offset, draw.randrange(400)) for offset in offsets]
    last: dict[int, int] = {}
    expected = []
    for offset, event_id in log:
        expected.append(event_id in last and offset - last[event_id] <= SPAN)
        last[event_id] = offset

    seen, got, at = DuplicateWindow(), [False] * len(log), 0
    while at < len(log):
        size = draw.randrange(1, 200)
        part = log[at : at + size]
        for _ in range(draw.choice([1, 1, 2, 3])):  # a rolled back batch comes again
            if part[-1][0] - part[0][0] > SPAN:
                part = part[:1]
            got[at : at + len(part)] = [seen.mark(0, offset, event_id) for offset, event_id in part]
        at += len(part)
        if draw.random() < 0.1 and at < len(log):  # a restart reads the span before again
            first = DuplicateWindow.start(seen := DuplicateWindow(), 0, log[at][0])
            for offset, event_id in log[:at]:
                if offset >= first:
                    seen.mark(0, offset, event_id)
    assert got == expected


def test_going_back_further_than_memory_is_refused_and_start_heals_it():
    seen = DuplicateWindow()
    seen.mark(0, 5 * SPAN, 1)
    with pytest.raises(DuplicateWindowLostError, match="partition 0 at offset 3"):
        seen.mark(0, 3, 1)
    assert seen.start(0, 3) == 0
    assert not seen.mark(0, 3, 1)


def test_memory_stays_within_three_blocks():
    seen = DuplicateWindow()
    for i in range(6 * SPAN):
        seen.mark(0, i, i)
    window = seen._windows[0]
    assert sum(len(block) for block in window.blocks.values()) <= 3 * SPAN
    assert window.overwritten == []


def test_land_marks_what_meter_leaves_out_and_a_batch_decoded_twice_gives_the_same(books, batch, call):
    same = str(uuid.uuid4())
    records = batch([call(id=same, user="first"), call(), call(id=same, user="second"), b"{", call(id=same)])
    seen = DuplicateWindow()
    decoded = [decode(records, books, seen, epoch=0, landed_at=0) for _ in range(3)]
    assert all(d.calls.equals(decoded[0].calls) for d in decoded)
    assert decoded[0].calls["_dup"].to_pylist() == [False, False, True, True]
    assert decoded[0].dups == 2
    metered = decode_metered(records, books, DuplicateWindow(), epoch=0)
    assert metered.table["_offset"].to_pylist() == [0, 1]
    assert metered.dups == 2


def test_a_dead_events_id_does_not_make_the_next_one_a_duplicate(books, batch, call):
    same = str(uuid.uuid4())
    bad = call(id=same, status="nonsense")
    decoded = decode(batch([bad, call(id=same)]), books, DuplicateWindow(), epoch=0, landed_at=0)
    assert decoded.calls["_dup"].to_pylist() == [False]


def test_feeding_the_span_is_as_good_as_having_decoded_it(books, batch, call):
    same = str(uuid.uuid4())
    before = [call(id=same), call(id=str(uuid.UUID(int=5)), status="nonsense"), None, json.dumps({"v": 2}).encode()]
    seen = DuplicateWindow()
    assert seen.start(0, 4) == 0
    seen.feed(batch(before))
    decoded = decode(batch([call(id=same), call(id=str(uuid.UUID(int=5)))], start=4), books, seen, epoch=0, landed_at=0)
    assert decoded.calls["_dup"].to_pylist() == [True, False]
