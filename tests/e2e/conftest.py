"""An hour of events from either source, and one Tailrace to send it through."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from main_job.hour import HOUR_S, SECOND, Hour, azure, generated
from main_job.life import Life, living

from tailrace.broker import Broker

SEED = 20
BEHIND_S = 150
"""The hour ended so long ago: all of it is judged as its windows close, whatever the pace."""


@pytest.fixture
def hour(request: pytest.FixtureRequest) -> Hour:
    """The hour of ``request.param``: ``azure`` (skips where the data is absent) or ``generated``."""
    start = int((time.time() - BEHIND_S - HOUR_S) * SECOND)
    if request.param == "azure":
        return azure(request.getfixturevalue("test_data"), start=start, seed=SEED)
    return generated(start=start, seed=SEED)


@pytest.fixture
def life(broker: Broker, tmp_path: Path) -> Iterator[Life]:
    """``tailrace up`` on the session's broker, with a home and topics of its own."""
    with living(broker.bootstrap, tmp_path / "home") as running:
        yield running
