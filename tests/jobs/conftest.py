"""A lake for the tests of the golden set."""

from pathlib import Path

import pytest

from tests.jobs.golden.lake import Home, copied, now
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of an empty lake; to be copied."""
    home = tmp_path_factory.mktemp("fresh") / "home"
    Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=now).close()
    return home


@pytest.fixture
def home(fresh: Path, tmp_path: Path) -> Home:
    """A lake of one's own."""
    return copied(fresh, tmp_path / "home")
