"""The invariants themselves: what they must find is planted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_harness import invariants
from fault_harness.postgres import Postgres
from fault_harness.rawlake import RawLake

from schemas.records import Move
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig, connect

EVENTS = "llm.events"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.faults)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> LakeConfig:
    catalog = str(tmp_path / "catalog.sqlite")
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        catalog = f"postgres:host=127.0.0.1 port={server.port} {server.database('lake_invariants')}"
    return LakeConfig(catalog, str(tmp_path / "data"))


def test_a_ledger_that_once_went_back_is_found_although_it_stands_where_it_should(config: LakeConfig) -> None:
    raw = RawLake(config.catalog, Path(config.data_path))
    with Lake.open(config, now=lambda: time.time_ns() // 1000) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0, 1: 0})
        lake.append({}, [Move(EVENTS, 0, 0, 5)])
        lake.replace_ledger()
        lake.append({}, [Move(EVENTS, 0, 5, 9), Move(EVENTS, 1, 0, 3)])
        moves = [(partition, upto) for _, _, partition, _, upto in raw.ledger_moves()]
        assert [upto for partition, upto in moves if partition == 0] == [0, 5, 5, 5, 9], (
            "of both ledgers, dead rows too"
        )
        invariants.forward(raw)
    planted = connect(config)
    for upto in (7, 9):
        planted.execute(f"UPDATE ledger SET next_offset = {upto} WHERE topic = '{EVENTS}' AND partition = 0")
    planted.close()
    assert raw.ledger()[0] == (0, 9)
    with pytest.raises(AssertionError, match=r"llm.events\[0\] of epoch 0 went back from 9 to 7 in snapshot \d+"):
        invariants.positions(raw)


def test_a_process_above_its_bounds_is_found(tmp_path: Path) -> None:
    program = f"import time; held = b'x' * (64 << 20); f = [open({str(tmp_path / 'f')!r}, 'a') for _ in range(40)]"
    hungry = f"{program}; print('there', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hungry], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        invariants.bounded(process.pid, rss_mb=256, handles=64)
        with pytest.raises(AssertionError, match="MiB, more than 32"):
            invariants.bounded(process.pid, rss_mb=32, handles=64)
        with pytest.raises(AssertionError, match="open files, more than 20"):
            invariants.bounded(process.pid, rss_mb=256, handles=20)
        process.kill()
    invariants.bounded(os.getpid(), rss_mb=4096, handles=4096)
