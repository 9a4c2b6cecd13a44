"""Row 63: an object store that cuts an upload off, is slow, swallows it, or is left by a writer that was killed.

DuckDB speaks real HTTP to a real server, through the proxy, in several parts or in one.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from fault_harness.bucket import KEY, SECRET, Bucket, Line, calls, readable, seen, server
from fault_harness.postgres import Postgres
from fault_harness.process import wait_until
from fault_harness.proxy import Proxy
from fault_harness.scene import Scene

from schemas.records import Move
from schemas.topics import EVENTS
from tailrace.broker import Broker
from warehouse.errors import LakeUnavailableError
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.upkeep.expire import remove_orphans
from warehouse.upkeep.pace import Pace
from warehouse.verify.verify import verify

PARTS = {"s3_uploader_max_filesize": "50GB"}
"""Parts of 5 MB, the least that S3 takes; without it they are of 80 MB, and a landing is one PUT."""
ROWS = 1_300
"""With 5 kB of noise each: 6.5 MB of Parquet, two parts."""

CUTS = {
    "before it began": (b"uploads=", False, PARTS),
    "between two parts": (b"partNumber=2", False, PARTS),
    "in its last part": (b"DuckDB version", False, PARTS),
    "before the parts were made a file": (b"<CompleteMultipartUpload", False, PARTS),
    "before the answer that they were": (b"<CompleteMultipartUpload", True, PARTS),
    "in its one piece": (b"DuckDB version", False, {}),
    "before the answer to its one piece": (b"DuckDB version", True, {}),
}
"""Word of the client that cuts, whether only after it was forwarded, DuckDB's settings. Parquet ends with its maker."""
CORE = ("between two parts", "before the answer to its one piece")
"""Those of ``make test``; ``make faults`` runs all."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an S3 server."""
    with server(tmp_path_factory.mktemp("s3") / "log") as port:
        yield port


@pytest.fixture
def bucket(store: int) -> Bucket:
    return Bucket(store)


@pytest.fixture
def line(store: int) -> Iterator[Line]:
    with Line(store) as between:
        yield between


@pytest.fixture
def lakes(bucket: Bucket, line: Line, tmp_path: Path) -> Iterator[Callable[..., Lake]]:
    """Open the lake of the bucket behind ``line``; 10 rows have landed."""
    opened: list[Lake] = []

    def make(**settings: str) -> Lake:
        config = bucket.config(tmp_path / "catalog.sqlite", line.port, **settings)
        opened.append(Lake.open(config, now=lambda: time.time_ns() // 1000))
        opened[-1].ensure_partitions(EVENTS, "topic-1", {0: 0})
        opened[-1].append({"raw_calls": calls(0, 10)}, [Move(EVENTS, 0, 0, 10)])
        return opened[-1]

    yield make
    for lake in opened:
        lake.close()


@pytest.mark.representatives(1)
@pytest.mark.row(63)
@pytest.mark.parametrize(
    "cut", [pytest.param(cut, id=name, marks=() if name in CORE else pytest.mark.faults) for name, cut in CUTS.items()]
)
def test_row_63_an_upload_that_was_cut_lands_nothing_and_then_once(
    bucket: Bucket, line: Line, lakes: Callable[..., Lake], cut: tuple[bytes, bool, dict[str, str]]
) -> None:
    word, line.cut_after, settings = cut
    lake = lakes(**settings)
    direct = bucket.config(Path(lake.config.catalog), bucket.port)
    batch, move = {"raw_calls": calls(10, ROWS)}, [Move(EVENTS, 0, 10, ROWS)]
    line.cut_at = word
    with pytest.raises(LakeUnavailableError) as failed:
        lake.append(batch, move)
    assert line.cuts == 1
    assert KEY not in str(failed.value)
    assert SECRET not in str(failed.value)
    assert seen(direct) == (10, 10, 10)
    readable(bucket, direct, orphans=1)
    line.heal()
    lake.append(batch, move)
    assert seen(direct) == (ROWS, ROWS, ROWS)
    assert bucket.unfinished() <= 1  # the bucket's own rule for unfinished uploads ends these
    remove_orphans(Pace(lake), now=datetime.now(UTC) + timedelta(days=3))
    readable(bucket, direct, orphans=0)


@pytest.mark.faults
@pytest.mark.row(63)
def test_row_63_a_cut_that_heals_at_once_is_not_even_noticed(bucket: Bucket, store: int, tmp_path: Path) -> None:
    with Proxy(store) as proxy:
        config = bucket.config(tmp_path / "catalog.sqlite", proxy.port, **PARTS)
        with Lake.open(config, now=lambda: time.time_ns() // 1000) as lake:
            lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
            for n, word in enumerate((b"uploads=", b"partNumber=2", b"DuckDB version")):
                proxy.cut_at = word
                lake.append({"raw_calls": calls(n * ROWS, (n + 1) * ROWS)}, [Move(EVENTS, 0, n * ROWS, (n + 1) * ROWS)])
                assert proxy.cuts == n + 1
    direct = bucket.config(tmp_path / "catalog.sqlite", store)
    assert seen(direct) == (3 * ROWS, 3 * ROWS, 3 * ROWS)
    readable(bucket, direct, orphans=0)


@pytest.mark.extended
@pytest.mark.row(63)
@pytest.mark.parametrize("settings", [PARTS, pytest.param({}, marks=pytest.mark.faults)], ids=["in parts", "in one"])
def test_row_63_a_slow_upload_is_seen_by_nobody_before_the_commit(
    bucket: Bucket, line: Line, lakes: Callable[..., Lake], settings: dict[str, str]
) -> None:
    lake = lakes(**settings)
    direct = bucket.config(Path(lake.config.catalog), bucket.port)
    batch = {"raw_calls": calls(10, ROWS)}
    line.delay_s, before = 0.01, line.passed
    writer = threading.Thread(target=lake.append, args=(batch, [Move(EVENTS, 0, 10, ROWS)]))
    writer.start()
    wait_until(lambda: line.passed > before + (4 << 20), 60, "4 MiB are on their way")
    line.hole = True
    looks = {seen(direct) for _ in range(5)}
    assert writer.is_alive()
    assert looks == {(10, 10, 10)}
    line.heal()
    writer.join(60)
    assert seen(direct) == (ROWS, ROWS, ROWS)
    readable(bucket, direct, orphans=0)


@pytest.mark.faults
@pytest.mark.row(63)
def test_row_63_a_bucket_that_swallows_everything_is_given_up_and_the_batch_lands_later(
    bucket: Bucket, line: Line, lakes: Callable[..., Lake]
) -> None:
    lake = lakes(http_timeout="1", http_retries="0")
    direct = bucket.config(Path(lake.config.catalog), bucket.port)
    line.hole = True
    with pytest.raises(LakeUnavailableError):
        lake.append({"raw_calls": calls(10, 20)}, [Move(EVENTS, 0, 10, 20)])
    assert seen(direct) == (10, 10, 10)
    line.cut()  # what it held back is lost
    line.heal()
    lake.append({"raw_calls": calls(10, 20)}, [Move(EVENTS, 0, 10, 20)])
    assert seen(direct) == (20, 20, 20)
    readable(bucket, direct, orphans=1)


@pytest.mark.faults
@pytest.mark.row(63)
def test_row_63_where_nobody_may_delete_a_commit_on_postgres_without_an_answer_keeps_its_files(
    bucket: Bucket, line: Line, postgres: Postgres, proxy: Callable[[int], Proxy]
) -> None:
    """DuckLake deletes what it believes lost (row 24), and a bucket has no links: its policy has to forbid it."""
    between = proxy(postgres.port)
    database = f"{postgres.database(f'bucket_{between.port}')} connect_timeout=5"
    config = bucket.config(Path("none"), line.port)
    config = replace(config, catalog=f"postgres:host=127.0.0.1 port={between.port} {database}")
    with Lake.open(config, now=lambda: time.time_ns() // 1000) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        between.cut_after, between.cut_at, line.cut_at = True, b"COMMIT", b"DELETE"
        lake.append({"raw_calls": calls(0, 10)}, [Move(EVENTS, 0, 0, 10)])  # the ledger says that it happened
        assert (between.cuts, line.cuts) == (1, 1)
        line.heal()
        assert lake.ledger() == {(EVENTS, 0): 10}
        assert seen(config) == (10, 10, 10)
        assert verify(config).ok


@pytest.mark.row(63)
def test_row_63_verify_names_an_object_that_is_gone_or_short(
    bucket: Bucket, line: Line, lakes: Callable[..., Lake]
) -> None:
    lake = lakes()
    direct = bucket.config(Path(lake.config.catalog), bucket.port)
    (path,) = [path for path in bucket.objects() if "/raw_calls/" in path]
    bucket.put(path, b"PAR1")
    (short,) = verify(direct).problems
    assert (short.check, short.where) == ("files", path)
    assert "4 bytes" in short.detail
    for each in bucket.objects():
        bucket.delete(each)
    gone = verify(direct)
    assert not gone.ok
    assert path in {problem.where for problem in gone.problems}
    line.refuse = True
    with pytest.raises(LakeUnavailableError):
        verify(lake.config)


@pytest.mark.row(63)
def test_row_63_readers_of_a_bucket_see_neither_its_keys_nor_a_local_file(
    bucket: Bucket, lakes: Callable[..., Lake], tmp_path: Path
) -> None:
    (tmp_path / "main.csv").write_text("a\nCANARY\n")
    with ReadOnlyLake.open(bucket.config(Path(lakes().config.catalog), bucket.port)) as readers:
        assert readers.query("SELECT count(*) AS n FROM calls").to_pylist() == [{"n": 10}]
        within = readers._connection  # as if the first guard had let everything through
        for sql in (f"FROM read_csv('{tmp_path}/main.csv')", f"FROM '{tmp_path}/main.csv'", "FROM read_text('/etc/*')"):
            with pytest.raises(duckdb.Error):
                within.execute(sql).fetchall()
        for sql in ("FROM pg_settings", "FROM duckdb_settings()", "FROM duckdb_secrets()"):
            told = str(within.execute(sql).fetchall())
            assert len(told) > 100
            assert SECRET not in told


@pytest.mark.faults
@pytest.mark.row(63)
def test_row_63_land_is_killed_in_mid_upload_and_waits_for_a_bucket_that_is_away(
    bucket: Bucket, line: Line, broker: Broker, scenes: Callable[..., Scene]
) -> None:
    reach = {"ENDPOINT": f"127.0.0.1:{line.port}", "URL_STYLE": "path", "USE_SSL": "false", "REGION": "us-east-1"}
    reach |= {"ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET}
    scene = scenes(
        broker.bootstrap,
        data_path=bucket.data_path,
        settings={f"TAILRACE_LAKE__S3_{k}": v for k, v in reach.items()} | {"TAILRACE_LAND__BATCH_WAIT_S": "2"},
    )
    direct = bucket.config(Path(scene.catalog), bucket.port)
    scene.traffic.good(50)
    scene.land_until_settled().terminate()
    for _ in range(1_000):
        scene.traffic.good(1, content={"mode": "full", "output": os.urandom(5_000).hex()})
    scene.traffic.flush()
    line.delay_s = 0.05
    land = scene.start("land")
    before = line.passed
    wait_until(lambda: line.passed > before + (1 << 20), 60, "1 MiB is on its way", scene.tails)
    land.kill()
    line.delay_s = 0.0
    rows, distinct, upto = seen(direct)  # 50, or more where the first of several batches was in already
    assert rows == distinct == upto < 1_050
    land = scene.land_until_settled()
    assert seen(direct) == (1_050, 1_050, 1_050)
    line.refuse = True
    scene.traffic.good(50)
    scene.traffic.flush()
    land.says("append_delayed", 60)
    assert seen(direct) == (1_050, 1_050, 1_050)
    line.heal()
    scene.settle()
    scene.healthy()
    assert seen(direct) == (1_100, 1_100, 1_100)
    readable(bucket, direct, orphans=2)
    settings = scene.tailrace("settings").stdout
    assert bucket.data_path in settings
    told = settings.encode() + b"".join(path.read_bytes() for path in scene.home.rglob("*") if path.is_file())
    assert KEY.encode() not in told
    assert SECRET.encode() not in told
