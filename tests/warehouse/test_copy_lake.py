"""A lake is copied into another row by row, resumably, and the old one stays as it was."""

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from fault_harness.bucket import Bucket, server
from fault_harness.postgres import Postgres

from schemas.records import Move
from schemas.tables import RAW_CALLS
from schemas.topics import EVENTS
from warehouse.copy_lake import LakeDiffersError, LakeIncompleteError, copy_lake
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, connect
from warehouse.unfinished_copy import LakeUnfinishedError
from warehouse.verify.verify import verify

START = datetime(2026, 11, 18, 10, tzinfo=UTC)
DAYS, A_DAY = 3, 40


def now() -> int:
    return time.time_ns() // 1000


def calls(start: int, end: int, *, days: int = DAYS) -> pa.Table:
    """Rows of several days, with texts, decimals and lists of structs among them."""
    rows = []
    for offset in range(start, end):
        at = START + timedelta(days=offset % days, seconds=offset)
        rows.append(
            {
                "v": 1,
                "ts": at,
                "id": str(uuid.UUID(int=offset)),
                "app": f"bot{offset % 2}",
                "model": "m",
                "status": "ok",
            }
            | {"_epoch": 0, "_partition": 0, "_offset": offset, "_dup": False, "_kafka_time": at, "_landed_at": at}
            | {"day": at.date(), "output_text": f"text {offset} 'quoted' \u00e4"}
        )
    return pa.Table.from_pylist(rows, schema=RAW_CALLS.schema)


@pytest.fixture
def source(tmp_path: Path) -> LakeConfig:
    config = LakeConfig(str(tmp_path / "old" / "catalog.sqlite"), str(tmp_path / "old" / "data"))
    with Lake.open(config, now=now) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        lake.append({"raw_calls": calls(0, DAYS * A_DAY)}, [Move(EVENTS, 0, 0, DAYS * A_DAY)])
    return config


@pytest.fixture
def target(tmp_path: Path) -> LakeConfig:
    return LakeConfig(str(tmp_path / "new" / "catalog.sqlite"), str(tmp_path / "new" / "data"))


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with server(tmp_path_factory.mktemp("s3") / "log") as port:
        yield Bucket(port)


def content(config: LakeConfig) -> tuple[object, ...]:
    with connect(config, read_only=True) as reader:
        (rows,) = reader.execute(
            "SELECT count(*), sum(hash(c)), count(DISTINCT _offset) FROM raw_calls AS c"
        ).fetchall()
        return (*rows, *reader.execute("SELECT * FROM ledger").fetchall())


def files(config: LakeConfig) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(config.data_path).rglob("*.parquet")}


def test_a_copy_is_equal_and_the_old_lake_unchanged_and_a_second_run_copies_nothing(
    source: LakeConfig, target: LakeConfig
) -> None:
    before, held = content(source), files(source)
    parts: list[str] = []
    done = copy_lake(source, target, now=now, progress=lambda part, rows: parts.append(part))
    assert content(target) == before == content(source)
    assert files(source) == held
    assert verify(target).ok
    assert parts[-1] == "ledger"
    assert sum(part.startswith("raw_calls ") for part in parts) == DAYS
    again = copy_lake(source, target, now=now)
    assert (again.rows, again.copied) == (done.rows, 0)


class CutError(Exception):
    pass


def cut(part: str, rows: int) -> None:
    if part.startswith("raw_calls "):
        raise CutError


def test_an_interrupted_copy_goes_on_where_it_was_and_nothing_lands_there_before(
    source: LakeConfig, target: LakeConfig
) -> None:
    with pytest.raises(CutError):
        copy_lake(source, target, now=now, progress=cut)
    with Lake.open(target, now=now) as lake:
        with pytest.raises(LakeUnfinishedError, match=r"raw_calls has rows.*run `tailrace lake move` or"):
            lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        assert lake.ledger() == {}, "nothing may land in half a lake under positions of its own"
    done = copy_lake(source, target, now=now)
    assert done.copied == done.rows - A_DAY
    assert content(target) == content(source)


def test_half_a_lake_is_no_source(source: LakeConfig, target: LakeConfig, tmp_path: Path) -> None:
    with pytest.raises(CutError):
        copy_lake(source, target, now=now, progress=cut)
    third = LakeConfig(str(tmp_path / "third" / "catalog.sqlite"), str(tmp_path / "third" / "data"))
    with pytest.raises(LakeIncompleteError, match="is not whole: raw_calls has rows"):
        copy_lake(target, third, now=now)


@pytest.mark.extended
def test_a_copy_stops_where_land_begins_to_write_into_its_target(source: LakeConfig, target: LakeConfig) -> None:
    def land(part: str, rows: int) -> None:
        with connect(target) as other:  # no lock keeps a land away from a catalog on PostgreSQL
            other.execute(
                "INSERT INTO ledger (topic, topic_id, epoch, partition, start_offset, next_offset) "
                "VALUES ('llm.events', 'topic-1', 0, 0, 0, 5)"
            )

    with pytest.raises(LakeDiffersError, match="events have landed there"):
        copy_lake(source, target, now=now, progress=land)
    assert content(target)[0] == A_DAY, "nothing was added after it"


def test_a_target_with_rows_of_its_own_is_refused_and_kept(source: LakeConfig, target: LakeConfig) -> None:
    with Lake.open(target, now=now) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        lake.append({"raw_calls": calls(0, 5)}, [Move(EVENTS, 0, 0, 5)])
    with pytest.raises(LakeDiffersError, match="events have landed there"):
        copy_lake(source, target, now=now)
    assert content(target)[0] == 5


def test_a_row_that_differs_is_found(source: LakeConfig, target: LakeConfig) -> None:
    copy_lake(source, target, now=now)
    with Lake.open(target, now=now) as lake:
        lake.transact(lambda c: c.execute("UPDATE raw_calls SET model = 'other' WHERE _offset = 7"))
        lake.transact(lambda c: c.execute("DELETE FROM ledger"))
    with pytest.raises(LakeDiffersError, match=r"raw_calls 2026-11-19.*2 rows there differ"):
        copy_lake(source, target, now=now)


@pytest.mark.extended
def test_it_reads_one_moment_of_a_lake_in_which_land_goes_on(source: LakeConfig, target: LakeConfig) -> None:
    before, end = content(source), DAYS * A_DAY
    landed = False

    def land(part: str, rows: int) -> None:
        nonlocal landed
        if not landed:
            with Lake.open(source, now=now) as lake:
                lake.append({"raw_calls": calls(end, end + 30)}, [Move(EVENTS, 0, end, end + 30)])
            landed = True

    copy_lake(source, target, now=now, progress=land)
    assert content(target) == before
    assert content(source)[0] == end + 30


@pytest.mark.extended
def test_to_postgresql_and_a_bucket_and_back_into_a_folder(
    source: LakeConfig, target: LakeConfig, postgres: Postgres, bucket: Bucket
) -> None:
    catalog = f"postgres:host=127.0.0.1 port={postgres.port} {postgres.database(f'copy_{uuid.uuid4().hex[:8]}')}"
    moved = bucket.config(Path(catalog), bucket.port)
    moved = LakeConfig(catalog, moved.data_path, settings=moved.settings)
    copy_lake(source, moved, now=now)
    assert content(moved) == content(source)
    assert any("/raw_calls/" in path for path in bucket.objects())
    with Lake.open(moved, now=now) as lake:  # land goes on in the new one
        end = DAYS * A_DAY
        lake.append({"raw_calls": calls(end, end + 10)}, [Move(EVENTS, 0, end, end + 10)])
    assert verify(moved).ok
    copy_lake(moved, target, now=now)  # a backup
    assert content(target) == content(moved)
    assert verify(target).ok
