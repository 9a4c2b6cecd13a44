"""Where meter continues, from what its group committed, what its ticks have, and what meters before 0.2 committed."""

from __future__ import annotations

import pytest

from pipelines.kafka import LogTruncatedError, TopicReplacedError
from pipelines.meter.resume import Current, OffsetMetadata, Resumed, resume
from schemas.records import Records
from schemas.rollups import H_KIND, Tick
from schemas.topics import EVENTS, ROLLUPS

TICK = ((H_KIND, b"tick"),)


class Log:
    """A source of one topic: its records, and what the group committed."""

    def __init__(self, topic, records=(), committed=()):
        self.topic, self.records, self._committed, self._next = topic, list(records), dict(committed), {}
        self.opened = self.closed = 0

    def open(self):
        self.opened += 1
        return self

    def close(self):
        self.closed += 1

    def committed(self, topic, partitions):
        found = self._committed.get(topic, {})
        return {p: found[p] for p in partitions if p in found}

    def partitions(self, topic):
        assert topic == self.topic
        return {p: (0, len([r for r in self.records if r[0] == p])) for p in range(2)}

    def assign(self, positions):
        self._next = dict(positions)

    def positions(self):
        return dict(self._next)

    def poll(self, wait_s=None):
        rows = [
            (p, offset, time, value, headers)
            for p, offset, time, value, headers in self.records
            if (self.topic, p) in self._next and offset >= self._next[self.topic, p]
        ]
        ends = self.partitions(self.topic)
        self._next = {at: ends[at[1]][1] for at in self._next}
        p, offsets, times, values, headers = (list(column) for column in zip(*rows, strict=True)) if rows else [[]] * 5
        return [Records(self.topic, p, offsets, times, [None] * len(rows), values, headers)] if rows else []


def events(committed, *, old=None, size=(100, 50)):
    """llm.events, where the record at offset n came at 1,000 + n; ``old``: what older meters committed for rollups."""
    records = [(p, n, 1_000 + n, b"{}", ()) for p in range(2) for n in range(size[p])]
    former = {ROLLUPS: {0: (0, old)}} if old else {}
    return Log(EVENTS, records, {EVENTS: committed, **former})


def ticks(*identities):
    """Partition 0 of llm.rollups: rollups with ticks between them; None is a tick of an older meter."""
    records = []
    for identity in identities:
        epoch, topic_id = identity or (0, "")
        tick = Tick(7, {}, epoch=epoch, topic_id=topic_id).to_json()
        rows = [(tick, TICK), *[(b"rollup", ((H_KIND, b"rollup"),))] * 300]
        records += [(0, len(records) + i, 0, value, headers) for i, (value, headers) in enumerate(rows)]
    return Log(ROLLUPS, records)


def resumed(source, now, rollups=None, **options):
    return resume(source, now, source.partitions(EVENTS), rollups=(rollups or ticks()).open, **options)


def beside(epoch, offset, topic_id="id-a"):
    """What is committed at ``offset`` of `events`."""
    return offset, str(OffsetMetadata(epoch, 999 + offset, topic_id))


@pytest.mark.parametrize("metadata", [OffsetMetadata(3, 17, "id"), OffsetMetadata(0, None, "id"), OffsetMetadata(1, 5)])
def test_metadata_is_read_as_it_was_written(metadata):
    assert OffsetMetadata.parse(str(metadata)) == metadata


def test_what_an_older_meter_or_nobody_of_ours_wrote_beside_an_offset():
    assert OffsetMetadata.parse("2 1795000000000000") == OffsetMetadata(2, 1795000000000000, "")
    assert [OffsetMetadata.parse(text) for text in ("", "x 1 id", "1", "1 -", "1 x id")] == [None] * 5


def test_it_continues_at_the_committed_offsets_and_does_not_read_the_ticks():
    rollups = ticks((0, "id-b"))
    source = events({0: beside(0, 40), 1: beside(0, 50)})
    assert resumed(source, Current("id-a"), rollups) == Resumed({0: 40, 1: 50}, {0: 1_039, 1: 1_049})
    assert rollups.opened == 0


def test_a_copy_continues_in_its_own_partitions_only():
    source = events({0: beside(0, 40), 1: beside(0, 50)})
    assert resumed(source, Current("id-a"), mine=lambda p: p == 1) == Resumed({1: 50}, {1: 1_049})


def test_the_first_start_begins_at_the_beginning():
    assert resumed(events({}), Current("id-a")) == Resumed({0: 0, 1: 0}, {})


def test_offsets_and_identity_of_an_older_meter_are_read():
    source = events({0: (40, "0 1039"), 1: (50, "0 1049")}, old="0 id-a")
    assert resumed(source, Current("id-a")) == Resumed({0: 40, 1: 50}, {0: 1_039, 1: 1_049})
    with pytest.raises(TopicReplacedError, match="topics adopt"):
        resumed(source, Current("id-b"))
    with pytest.raises(TopicReplacedError):  # Kafka deleted the offsets with the topic; ticks had no id then
        resumed(events({}, old="0 id-a"), Current("id-b"), ticks(None, None))


def test_a_topic_made_again_is_refused_by_the_last_tick_though_its_offsets_are_gone():
    rollups = ticks((0, "id-a"), None)
    with pytest.raises(TopicReplacedError, match="topics adopt"):
        resumed(events({}), Current("id-b"), rollups)
    assert rollups.opened == rollups.closed == 1
    adopted = Current("id-b", epoch=1, starts={0: 7})
    assert resumed(events({}), adopted, rollups) == Resumed({0: 7, 1: 0}, {})


def test_ticks_are_newer_than_what_an_older_meter_left_in_the_group():
    with pytest.raises(TopicReplacedError):
        resumed(events({}, old="0 id-a"), Current("id-c", epoch=1), ticks((1, "id-b")))


def test_a_copy_that_still_counts_under_the_epoch_before_does_not_hide_the_adoption():
    source = events({0: beside(1, 40, "id-b"), 1: beside(0, 30, "id-a")})
    found = resumed(source, Current("id-b", epoch=1, starts={1: 3}))
    assert found == Resumed({0: 40, 1: 3}, {0: 1_039}), "offset 30 is of the topic before"


def test_without_any_identity_that_of_the_lake_is_compared():
    source = events({0: (40, ""), 1: (50, "")})
    assert resumed(source, Current("id-a", landed_id="id-a")).positions == {0: 40, 1: 50}
    with pytest.raises(TopicReplacedError):
        resumed(source, Current("id-b", landed_id="id-a"))


def test_a_truncated_log_is_refused_until_it_is_adopted():
    source = events({0: beside(0, 140), 1: beside(0, 50)})
    with pytest.raises(LogTruncatedError, match="topics adopt"):
        resumed(source, Current("id-a"))
    found = resumed(source, Current("id-a", epoch=1, starts={0: 90, 1: 20}))
    assert found == Resumed({0: 90, 1: 50}, {1: 1_049}), "the other partition is whole"


def test_a_log_that_grew_again_with_other_records_is_refused():
    source = events({0: (40, str(OffsetMetadata(0, 5, "id-a"))), 1: beside(0, 50)})
    with pytest.raises(LogTruncatedError):
        resumed(source, Current("id-a"))
