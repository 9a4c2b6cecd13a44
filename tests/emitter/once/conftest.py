"""A scripted provider for each case; its helper modules lie beside this file and in tests/exchanges."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "exchanges"))
sys.path.insert(0, str(Path(__file__).parent))

from once_world import World


@pytest.fixture
def world() -> Iterator[World]:
    """A fresh world."""
    made = World()
    yield made
    made.http.close()
    made.emitter.close(0)
