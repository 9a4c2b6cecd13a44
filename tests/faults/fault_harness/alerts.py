"""The invariants A and D: what must have been told, judged again from what landed, never interrupted.

A judgement is a function of the records of one partition of llm.rollups in offset order, ticks included: batch
boundaries, kills and lateness are all in those records. So what is judged again from the lake must be told by the
live stage state by state, body by body; nothing has to be left out of the comparison.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from fault_harness.rawlake import RawLake
from fault_harness.receiver import Receiver
from pipelines.detect.judge import Judge
from schemas.alerts import Alert
from schemas.records import Record
from schemas.rollups import H_EPOCH, H_KIND, H_PARTITION, H_TO, ROLLUP, SourceTick, Tick
from schemas.topics import ROLLUPS

Key = tuple[str, int]
"""(alert id, seq)."""
_READ = tuple(ROLLUP.names)
_AT = '"_offset", epoch_us(_kafka_time) AS kafka_time'
_SOURCE = '"key", source_partition, source_to, source_epoch'


@dataclass(frozen=True)
class Told:
    """What was to be told, and what became of it. All but ``expected`` and ``redelivered`` must be empty or 0."""

    expected: dict[Key, Alert]
    missing: frozenset[Key]
    """Expected, and not in the lake's ``alerts``."""
    unheard: frozenset[Key]
    """Expected, and never accepted by the receiver."""
    extra: frozenset[Key]
    """Told, and not expected."""
    contradicted: frozenset[Key]
    """Told under one id and seq with two bodies."""
    altered: frozenset[Key]
    """Told in other words than expected."""
    twice: int
    """Openings of one fingerprint and window beyond the first, under ids of their own."""
    repeated: int
    """Rows of ``alerts`` beyond the first of their id and seq: a detect that was killed tells again what it may have
    told; allowed."""
    redelivered: int
    """Requests accepted beyond the first of their id: allowed, the receiver knows them by it."""

    @property
    def missed(self) -> int:
        """Alerts that nobody was told of, or that the lake does not hold."""
        return len(self.missing | self.unheard)

    @property
    def doubled(self) -> int:
        """Alerts too many: extra ones, one id with two bodies, two ids for one incident."""
        return len(self.extra | self.contradicted) + self.twice


def judged_again(lake: RawLake, judge: Judge | None = None) -> list[Alert]:
    """All alerts that the landed rollups and ticks give, partition by partition."""
    judge = judge or Judge()
    names = {d.name for d in judge.detectors}
    partitions = sorted(p for (p,) in lake.rows("ticks", "DISTINCT _partition"))
    told = [alert for p in partitions for alert in judge.run(records(lake, p))]
    assert {a.detector for a in told} <= names
    return told


def compare(lake: RawLake, receiver: Receiver, judge: Judge | None = None) -> Told:
    """Hold the lake's ``alerts`` and the receiver's book against ``judged_again``. All must have come to rest."""
    judge = judge or Judge()
    names = {d.name for d in judge.detectors}
    again = judged_again(lake, judge)
    expected = {(a.id, a.seq): a for a in again}
    assert len(expected) == len(again), "one id and seq were judged twice"
    rows = [(i, seq, body) for i, seq, d, body in lake.rows("alerts", "id, seq, detector, alert") if d in names]
    landed: dict[Key, set[str]] = {}
    for name, seq, body in rows:
        landed.setdefault((name, seq), set()).add(hashlib.sha256(body.encode()).hexdigest())
    others = {(i, seq) for i, seq, d in lake.rows("alerts", "id, seq, detector") if d not in names}
    # alerts of the past are named by a digest, which is no alert of its own
    members = lake.rows("deliveries", "alert_id, seq, digest", "state = 'delivered' AND digest <> ''")
    others |= {(digest, 0) for _, _, digest in members}
    heard = {_key(name): bodies for name, bodies in receiver.bodies.items() if _key(name) not in others}
    heard |= {(i, seq): landed.get((i, seq), set()) for i, seq, _ in members}
    seen = {key: landed.get(key, set()) | heard.get(key, set()) for key in landed.keys() | heard.keys()}
    opened = lake.rows("alerts", "DISTINCT id, fingerprint, window_start", "state = 'firing'")
    openings = Counter((fingerprint, start) for _, fingerprint, start in opened)
    return Told(
        expected=expected,
        missing=frozenset(expected.keys() - landed.keys()),
        unheard=frozenset(expected.keys() - heard.keys()),
        extra=frozenset(seen.keys() - expected.keys()),
        contradicted=frozenset(key for key, bodies in seen.items() if len(bodies) > 1),
        altered=frozenset(
            k for k, a in expected.items() if k in seen and hashlib.sha256(a.to_json()).hexdigest() not in seen[k]
        ),
        twice=sum(count - 1 for count in openings.values()),
        repeated=len(rows) - len(landed),
        redelivered=receiver.redelivered,
    )


def told_right(lake: RawLake, receiver: Receiver) -> Told:
    """A and D: every alert that follows from what landed is in the lake, was accepted, and stands under one id."""
    found = compare(lake, receiver)
    titles = {key: alert.title for key, alert in found.expected.items()}
    assert not found.missing, f"not in the lake's alerts: {[(k, titles[k]) for k in found.missing]}"
    assert not found.unheard, f"never accepted: {[(k, titles[k]) for k in found.unheard]}"
    assert not found.doubled, f"extra {found.extra}, with two bodies {found.contradicted}, opened twice {found.twice}"
    assert not found.altered, f"told in other words: {[(k, titles[k]) for k in found.altered]}"
    return found


def records(lake: RawLake, partition: int) -> Iterator[Record]:
    """The records of one partition of llm.rollups as detect read them, put together from their rows."""
    ticks = {row[0]: row for row in lake.rows("ticks", f"{_AT}, epoch_us(wall), slot, sources", _in(partition))}
    columns = ", ".join(f'"{name}"' for name in _READ)
    # rows of one message stand in one file, in the order in which they were sent
    rows = lake.table(
        "rollups", f"{columns}, {_AT}, {_SOURCE}", f"{_in(partition)} AND key <> '*' ORDER BY _offset, file_row_number"
    )
    spans = _spans(rows) if rows is not None else {}
    for offset in sorted(ticks.keys() | spans.keys()):
        if offset in ticks:
            yield _tick(partition, *ticks[offset])
        elif rows is not None:
            yield _rollup(partition, offset, rows.slice(*spans[offset]))


def _in(partition: int) -> str:
    return f"_partition = {partition}"


def _key(webhook_id: str) -> Key:
    name, _, seq = webhook_id.rpartition("-")
    return name, int(seq)


def _spans(rows: pa.Table) -> dict[int, tuple[int, int]]:
    """Offset -> (first row, rows) of a table in the order of its offsets."""
    found: dict[int, tuple[int, int]] = {}
    for i, offset in enumerate(rows.column("_offset").to_pylist()):
        first, count = found.get(offset, (i, 0))
        found[offset] = first, count + 1
    return found


def _tick(partition: int, offset: int, kafka_time: int, wall: int, slot: str, sources: list[dict[str, int]]) -> Record:
    said = {s["partition"]: SourceTick(**{k: v for k, v in s.items() if k != "partition"}) for s in sources}
    return Record(ROLLUPS, partition, offset, kafka_time, None, Tick(wall, said, slot).to_json(), ((H_KIND, b"tick"),))


def _rollup(partition: int, offset: int, rows: pa.Table) -> Record:
    said = {name: rows.column(name)[0].as_py() for name in ("kafka_time", "key", "source_partition", "source_to")}
    table = rows.select(_READ)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    headers = (
        (H_KIND, b"rollup"),
        (H_PARTITION, b"%d" % said["source_partition"]),
        (H_TO, b"%d" % said["source_to"]),
        (H_EPOCH, b"%d" % rows.column("source_epoch")[0].as_py()),
    )
    return Record(ROLLUPS, partition, offset, said["kafka_time"], said["key"].encode(), bytes(sink.getvalue()), headers)
