"""Row 13, a power cut: what was synced makes a whole lake, and a log that lost its end is not read on behind it."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fault_harness.power import Disk, chance, cut_log, moments, traced
from fault_harness.process import wait_until
from fault_harness.traffic import Traffic

from schemas.errors import FatalError, RetryableError
from schemas.topics import ROLLUPS
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig
from warehouse.verify.verify import verify

REPO = Path(__file__).parents[2]
NOW = 1_795_000_000_000_000
TOPIC = "llm.events"
WRITER = textwrap.dedent(
    """
    import os, sys
    from datetime import date, timedelta
    import structlog
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.path[:0] = [{repo!r}, {repo!r} + "/tests/warehouse"]
    from conftest import Rows
    from schemas.records import Move
    from warehouse.storage import fsync
    from warehouse.storage.connect import LakeConfig
    from warehouse.lake import Lake
    from warehouse.upkeep.merge import merge
    from warehouse.upkeep.pace import Pace
    FIRST = date(2026, 11, 18)
    if not {synced}:
        fsync.sync = lambda files, root: None
    lake = Lake.open(LakeConfig({catalog!r}, {data!r}), now=lambda: {now})
    for step in range(6):
        if step == 4:
            merge(Pace(lake, rest=0.0), "raw_calls")
        at = step * 10
        calls = [Rows.call(n, day=FIRST + timedelta(step // 2 + n % 2)) for n in range(at, at + 9)]
        batches = {{"raw_calls": Rows.table("raw_calls", calls), "dead": Rows.dead(at + 9)}}
        lake.append(batches, [Move({topic!r}, 0, at, at + 10)])
        os.write(1, b"%d\\n" % (at + 10))
    lake.close()
    """
)
pytestmark = [pytest.mark.faults, pytest.mark.row(13), pytest.mark.timeout(900)]
needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed (make setup-system)")


@needs_strace
def test_whatever_moment_the_power_goes_the_lake_is_whole_and_holds_what_it_told(home, tmp_path):
    cuts = list(after_cuts(home, tmp_path, synced=True))
    assert len(cuts) > 40
    assert not [cut for cut in cuts if cut.lost or cut.broken]
    assert cuts[-1].positions == 60


@needs_strace
def test_without_the_sync_of_data_files_a_power_cut_breaks_the_lake(home, tmp_path):
    """The check can fail: DuckDB closes Parquet files without fsync."""
    assert any(cut.broken for cut in after_cuts(home, tmp_path, synced=False))


@pytest.mark.parametrize("grown", [0, 3, 9])
def test_a_log_that_lost_its_end_is_refused_and_adopted_from_where_it_was_cut(own_broker, scenes, grown):
    """Shorter than the ledger, as long again, longer: behind the cut stand other records than the landed ones."""
    scene = scenes(own_broker.bootstrap, partitions=1)
    land, meter = scene.start("land"), scene.start("meter")
    for _ in range(9):  # a batch each
        scene.traffic.good(1)
        scene.traffic.flush()
    scene.settle()
    scene.metered()
    assert [land.terminate(), meter.terminate()] == [0, 0]
    own_broker.kill()
    logs = own_broker.folder / "data"
    cut_log(logs / f"{scene.kafka.prefix}{TOPIC}-0", 6)
    cut_log(logs / f"{scene.kafka.prefix}{ROLLUPS}-0")
    own_broker.start(60)
    # the old producer would end itself: the broker no longer knows what it acknowledged
    scene.traffic = Traffic(own_broker.bootstrap, scene.kafka.prefix + TOPIC)
    if grown:
        scene.traffic.good(grown)
        scene.traffic.flush()

    refused = scene.start("land"), scene.start("meter")
    assert all(stage.ended() not in (0, -9) for stage in refused)
    assert "the ledger stands at 9, but the log that was landed ends at 6" in refused[0].said
    assert "tailrace topics adopt llm.events llm.rollups" in refused[0].said
    assert "partition 0 was counted up to 9, its log ends at" in refused[1].said
    adopted = scene.tailrace("topics", "adopt")
    assert adopted.returncode == 0, adopted.stderr
    assert [line.split()[0] for line in adopted.stdout.splitlines()] == [TOPIC, ROLLUPS]
    scene.traffic.good(1)
    scene.traffic.flush()
    land, meter = scene.start("land"), scene.start("meter")
    wait_until(lambda: scene.lake.rows("raw_calls", "count(*)") == [(10 + grown,)], 60, "all has landed", scene.tails)
    landed = scene.lake.rows("raw_calls", "_epoch, min(_offset), count(*)", "true GROUP BY 1 ORDER BY 1")
    assert landed == [(0, 0, 9), (1, 6, grown + 1)]
    metered = "dims = 'app' AND source_epoch = 1"
    wait_until(
        lambda: scene.lake.rows("rollups", "sum(calls)::BIGINT", metered) == [(grown + 1,)], 60, "metered", scene.tails
    )
    assert [land.terminate(), meter.terminate()] == [0, 0], scene.tails()
    scene.verified()
    again = scene.tailrace("topics", "adopt")
    assert again.returncode == 2, again.stdout


@dataclass(frozen=True)
class Cut:
    """What was found after one."""

    when: str
    positions: int
    """The ledger's next offset."""
    lost: int
    """Positions that the program had been told of, and that are not there."""
    broken: str
    """What verify found."""


@pytest.fixture
def home(tmp_path):
    """A lake that has its partitions, and has long been on the disk."""
    config = LakeConfig(str(tmp_path / "home/catalog.sqlite"), str(tmp_path / "home/data"))
    with Lake.open(config, now=lambda: NOW) as lake:
        lake.ensure_partitions(TOPIC, "topic-1", {0: 0})
    return tmp_path / "home"


def after_cuts(home: Path, tmp_path: Path, *, synced: bool) -> Iterator[Cut]:
    """Write to the lake, and open what is left after a cut at every word and at every sync of the catalog's log."""
    disk, log = Disk.before(home), tmp_path / "calls"
    paths = {"catalog": str(home / "catalog.sqlite"), "data": str(home / "data")}
    program = WRITER.format(repo=str(REPO), synced=synced, now=NOW, topic=TOPIC, **paths)
    told = traced([sys.executable, "-c", program], log)
    assert told.returncode == 0, told.stderr
    for number, when in enumerate(moments(disk, log)):
        if when != "said" and not when.endswith("-wal"):
            continue
        for seed in (None, number):  # nothing unsynced is left; about half of it is
            image = tmp_path / f"image{number}-{seed}"
            disk.image(image, chance(seed) if seed is not None else lambda: False)
            yield found(image, when, disk.said)
            shutil.rmtree(image)


def found(image: Path, when: str, said: int) -> Cut:
    config = LakeConfig(str(image / "catalog.sqlite"), str(image / "data"))
    try:
        with Lake.open(config, now=lambda: NOW) as lake:
            positions = lake.ledger()[TOPIC, 0]
    except (FatalError, RetryableError) as error:
        return Cut(when, 0, said, str(error))
    report = verify(config)
    landed = sum(p.landed + p.dead for p in report.partitions)
    return Cut(when, positions, max(0, said - landed), "; ".join(p.detail for p in report.problems))
