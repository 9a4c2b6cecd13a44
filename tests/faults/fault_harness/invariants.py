"""The invariants P O L M R V B of the fault matrix, counted from raw Parquet and the catalog, without our own code."""

from decimal import Decimal
from itertools import pairwise

import psutil
import pyarrow.parquet as pq

from fault_harness.process import rss_mb as resident_mb
from fault_harness.rawlake import RawLake
from fault_harness.traffic import Sent

EVENT_TABLES = ("raw_calls", "raw_feedback", "raw_evals", "dead")
POSITION = "_partition, _offset"


def landed(lake: RawLake) -> list[tuple[int, int, str]]:
    """(partition, offset, table) of every row that stands for a position of llm.events."""
    found = []
    for table in EVENT_TABLES:
        where = "topic = 'llm.events'" if table == "dead" else "true"
        found += [(p, o, table) for p, o in lake.rows(table, POSITION, where)]
    return found


def positions(lake: RawLake) -> None:
    """P and O: every position below the ledger is once in one table, in gaps, or in a range without records; none is
    above it; the ledger never goes back.
    """
    forward(lake)
    ledger = lake.ledger()
    spans = lake.rows("gaps", '"partition", from_offset, to_offset', "topic = 'llm.events'")
    empty: dict[int, list[int]] = {}
    for partition, start, upto in lake.rows("no_record_ranges", "_partition, from_offset, to_offset"):
        empty.setdefault(partition, []).extend(range(start, upto))
    by_partition: dict[int, list[int]] = {}
    for partition, offset, _ in landed(lake):
        by_partition.setdefault(partition, []).append(offset)
    assert set(by_partition) <= set(ledger), (
        f"rows in partitions without a ledger row: {set(by_partition) - set(ledger)}"
    )
    for partition, (start, upto) in ledger.items():
        offsets = by_partition.get(partition, [])
        doubles = len(offsets) - len(set(offsets))
        assert not doubles, f"partition {partition}: {doubles} positions landed twice"
        lost = sum(b - a for p, a, b in spans if p == partition)
        without = empty.get(partition, [])
        assert len(without) == len(set(without) - set(offsets)), f"partition {partition}: a row where no record was"
        assert len(offsets) + lost + len(without) == upto - start, (
            f"partition {partition}: {upto - start} consumed, {len(offsets)} rows + {lost} gaps + {len(without)} "
            f"without a record; missing {sorted(set(range(start, upto)) - set(offsets) - set(without))[:10]}"
        )
        if offsets:
            assert max(offsets) < upto, f"partition {partition}: a row at {max(offsets)}, the ledger says {upto}"
            assert min(offsets) >= start


def forward(lake: RawLake) -> None:
    """O: no ledger row ever went back between two snapshots, however often the ledger was replaced."""
    for before, after in pairwise(lake.ledger_moves()):
        if before[:3] == after[:3]:
            topic, epoch, partition, snapshot, upto = after
            assert upto >= before[4], (
                f"{topic}[{partition}] of epoch {epoch} went back from {before[4]} to {upto} in snapshot {snapshot}"
            )


def bounded(pid: int, *, rss_mb: float, handles: int) -> None:
    """B: a process holds no more memory (MiB, resident) and no more open files than this."""
    held = resident_mb(pid)
    assert held < rss_mb, f"process {pid} holds {held:.0f} MiB, more than {rss_mb:.0f}"
    files = psutil.Process(pid).num_fds()
    assert files < handles, f"process {pid} holds {files} open files, more than {handles}"


def deliveries(lake: RawLake, sent: Sent) -> None:
    """L: every acknowledged position landed as what it was; every good id stands once where duplicates are out."""
    calls = {(p, o): str(i) for p, o, i in lake.rows("raw_calls", f"{POSITION}, id")}
    dead = set(lake.rows("dead", POSITION, "topic = 'llm.events'"))
    lost = [at for at in sent.positions if at not in calls and at not in dead]
    assert not lost, f"{len(lost)} acknowledged events are not in the lake, e.g. {lost[:5]}"
    wrong = [at for at, i in sent.positions.items() if (calls.get(at) != i if i else at not in dead)]
    assert not wrong, f"{len(wrong)} events landed as something else, e.g. {wrong[:5]}"
    kept = [str(i) for (i,) in lake.rows("raw_calls", "id", "NOT coalesce(_dup, false)")]
    assert len(kept) == len(set(kept)), f"{len(kept) - len(set(kept))} ids stand twice among what counts"
    assert sent.ids <= set(kept), "an id has only rows that are marked as duplicates"


def money(lake: RawLake, sent: Sent) -> None:
    """M: the lake's sum over what counts is the ledger's sum, to the last digit."""
    rows = lake.rows("raw_calls", "sum(cost_usd)", "NOT coalesce(_dup, false)")
    total = (rows[0][0] if rows else None) or Decimal(0)
    assert total == sent.usd, f"the lake says {total} USD, the ledger {sent.usd}"


def readable(lake: RawLake, *, kills: int = 0) -> None:
    """R: every file in the catalog opens and is whole; no event row was ever deleted; few orphans."""
    for table, files in lake.all_files().items():
        for file in files:
            assert file.exists(), f"{table}: {file.name} is in the catalog and not on disk"
            assert pq.read_metadata(file).num_rows >= 0
            pq.read_table(file)
    deleted = [row for row in lake.deletes() if row[0] in EVENT_TABLES]
    assert not deleted, f"rows of append-only tables were deleted: {deleted}"
    orphans = lake.orphans()
    # one transaction writes at most a file per table and day
    assert len(orphans) <= kills * 24, f"{len(orphans)} orphans after {kills} kills"


def rolled_up(lake: RawLake) -> tuple[int, Decimal]:
    """Return calls and cost of the landed rollups, by app: the live side of L and M."""
    rows = lake.rows("rollups", "sum(calls)::BIGINT, sum(cost_nanousd)::HUGEINT", "dims = 'app'")
    calls, nano = rows[0] if rows else (0, 0)
    return int(calls or 0), Decimal(int(nano or 0)) / 1_000_000_000


def everything(lake: RawLake, sent: Sent, *, kills: int = 0) -> None:
    """P O L M R."""
    positions(lake)
    deliveries(lake, sent)
    money(lake, sent)
    readable(lake, kills=kills)
