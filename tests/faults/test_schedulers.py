"""Row 64: two schedulers on one lake."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from fault_harness import postgres as pg
from fault_harness.process import REPO

from warehouse.connect import LakeConfig, connect
from warehouse.lake import Lake

NOW = 1_795_000_000_000_000
HOUR = 3_600_000_000
DUE_TIMES = 5
# both make the row, and then both want every due time
RACE = """
import sys
from warehouse import claims
from warehouse.claims import Claim
from warehouse.connect import LakeConfig
from warehouse.lake import Lake

catalog, data, owner, first, hour, times = *sys.argv[1:4], *map(int, sys.argv[4:])
with Lake.open(LakeConfig(catalog, data), now=lambda: first, lander=False) as lake:
    print("ready", flush=True)
    sys.stdin.readline()
    claims.move(lake, None, Claim("maintain", first, 0, owner, first, first, first))
    for due in range(first + hour, first + hour * (times + 1), hour):
        was = claims.read(lake.config, "maintain")
        while was.due_at < due:
            if claims.move(lake, was, Claim("maintain", due, 1, owner, due, due + hour, None)):
                print("won", due, flush=True)
            was = claims.read(lake.config, "maintain")
"""


def race(config: LakeConfig) -> Counter[int]:
    """Let two processes fight for every due time; return how often each was won."""
    Lake.open(config, now=lambda: NOW).close()
    words = [sys.executable, "-c", RACE, config.catalog, config.data_path]
    numbers = [str(n) for n in (NOW, HOUR, DUE_TIMES)]
    racers = [
        subprocess.Popen([*words, owner, *numbers], cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for owner in ("a", "b")
    ]
    assert [racer.stdout.readline() for racer in racers if racer.stdout] == ["ready\n"] * 2
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    said = [line.split() for racer in racers for line in racer.communicate(timeout=120)[0].splitlines()]
    assert [racer.returncode for racer in racers] == [0, 0]
    return Counter(int(words[1]) for words in said if words[0] == "won")  # beside log lines


EACH_ONCE = Counter(range(NOW + HOUR, NOW + HOUR * (DUE_TIMES + 1), HOUR))


@pytest.mark.row(64)
def test_row_64_of_two_processes_on_sqlite_one_takes_each_due_time(tmp_path: Path) -> None:
    assert race(LakeConfig(str(tmp_path / "catalog.sqlite"), str(tmp_path / "data"))) == EACH_ONCE


@pytest.mark.row(64)
def test_row_64_of_two_processes_on_postgres_one_takes_each_due_time(postgres: pg.Postgres, tmp_path: Path) -> None:
    catalog = f"postgres:host=127.0.0.1 port={postgres.port} {postgres.database('claims')}"
    config = LakeConfig(catalog, str(tmp_path / "data"))
    assert race(config) == EACH_ONCE
    with connect(config, read_only=True) as connection:
        (files,) = connection.execute("SELECT count(*) FROM ducklake_list_files('lake', 'job_claims')").fetchone() or ()
    assert files == 0
