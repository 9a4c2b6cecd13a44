"""`tailrace lake move`, `backup` and `restore`, as people run them, on a real lake."""

import os
import time

import pytest
from fault_harness.zygote import run_command

from schemas.records import Move
from schemas.topics import EVENTS
from tailrace.home.layout import Home
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig


def tailrace(home, *arguments):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")}
    return run_command(["--home", str(home), *arguments], env=clean, timeout=200)


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    with Lake.open(LakeConfig(str(home.catalog), str(home.data_path)), now=lambda: time.time_ns() // 1000) as lake:
        lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
        lake.append({}, [Move(EVENTS, 0, 0, 7)])
    return home.path


def ledger(catalog, data):
    with Lake.open(LakeConfig(str(catalog), str(data)), now=lambda: time.time_ns() // 1000) as lake:
        return lake.ledger()


def test_a_backup_is_restored_into_an_empty_home_only(home, tmp_path):
    backup = tmp_path / "backup"
    done = tailrace(home, "lake", "backup", str(backup))
    assert done.returncode == 0, done.stderr
    assert f"`tailrace lake restore {backup}`" in done.stdout
    refused = tailrace(home, "lake", "backup", str(backup))
    assert refused.returncode == 2
    assert f"{backup} is not empty" in refused.stderr
    fresh = tmp_path / "fresh"
    assert tailrace(fresh, "lake", "restore", str(backup)).returncode == 0
    found = Home(fresh)
    assert ledger(found.catalog, found.data_path) == {(EVENTS, 0): 7}
    with Lake.open(LakeConfig(str(found.catalog), str(found.data_path)), now=lambda: 0) as lake:
        lake.append({}, [Move(EVENTS, 0, 7, 9)])
    refused = tailrace(fresh, "lake", "restore", str(backup))
    assert refused.returncode == 2
    assert "events have landed there" in refused.stderr


def test_a_move_names_the_new_settings_and_is_refused_while_land_runs(home, tmp_path):
    catalog, data = tmp_path / "new" / "catalog.sqlite", tmp_path / "new" / "data"
    held = Home(home)
    with Lake.open(LakeConfig(str(held.catalog), str(held.data_path)), now=lambda: 0):
        refused = tailrace(home, "lake", "move", "--to", str(catalog), str(data))
    assert refused.returncode == 2
    assert "another process" in refused.stderr or "land" in refused.stderr
    done = tailrace(home, "lake", "move", "--to", str(catalog), str(data))
    assert done.returncode == 0, done.stderr
    assert f"TAILRACE_LAKE__CATALOG={catalog}\nTAILRACE_LAKE__DATA_PATH={data}\n" in done.stdout
    assert ledger(catalog, data) == {(EVENTS, 0): 7}
    same = tailrace(home, "lake", "move", "--to", str(held.catalog), str(data))
    assert same.returncode == 2
    assert "is the lake's present catalog" in same.stderr
    strange = tailrace(home, "lake", "move", "--to", f"sqlite:{catalog}", str(data))
    assert strange.returncode == 2
    assert "the path of an SQLite file" in strange.stderr
