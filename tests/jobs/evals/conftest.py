"""An empty lake for the tests of evals."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.evals.lake import LakeOutlet, now
from tests.pipelines.notify.conftest import Receiver
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig


@pytest.fixture(scope="session")
def empty_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("evals") / "home"
    Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=now).close()
    return home


@pytest.fixture
def config(empty_lake: Path, tmp_path: Path) -> LakeConfig:
    home = tmp_path / "home"
    shutil.copytree(empty_lake, home)
    return LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))


@pytest.fixture
def outlet(config: LakeConfig) -> LakeOutlet:
    return LakeOutlet(config)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()
