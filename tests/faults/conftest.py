"""Scenes for the fault tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fault_harness import postgres as pg
from fault_harness.proxy import Proxy
from fault_harness.receiver import Receiver
from fault_harness.scene import Scene
from fault_harness.whole import Up

from tailrace.broker import Broker


@pytest.fixture
def scenes(tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    """Make a scene on the broker at an address; all its processes end with the test."""
    made: list[Scene] = []

    def make(bootstrap: str, **how: Any) -> Scene:
        scene = Scene(bootstrap, how.pop("home", tmp_path / f"home{len(made)}"), **how)
        made.append(scene)
        return scene

    yield make
    for scene in made:
        scene.close()


@pytest.fixture
def scene(broker: Broker, scenes: Callable[..., Scene]) -> Scene:
    """One Tailrace on the session's broker."""
    return scenes(broker.bootstrap)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where alerts go."""
    receiver = Receiver()
    yield receiver
    receiver.close()


@pytest.fixture
def up(tmp_path: Path, receiver: Receiver) -> Iterator[Up]:
    """The supervisor, its broker and every stage."""
    running = Up(tmp_path / "home", receiver.settings)
    yield running
    running.close()


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that a module may kill, freeze and cut."""
    with Broker(tmp_path_factory.mktemp("own"), heap_mb=256) as broker:
        yield broker


@pytest.fixture
def proxy() -> Iterator[Callable[[int], Proxy]]:
    """Put a proxy in front of a port."""
    made: list[Proxy] = []

    def make(port: int) -> Proxy:
        made.append(Proxy(port))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def on_postgres(
    postgres: pg.Postgres, broker: Broker, scenes: Callable[..., Scene], proxy: Callable[[int], Proxy]
) -> tuple[Scene, Proxy]:
    """A scene whose catalog is on PostgreSQL, behind a proxy."""
    between = proxy(postgres.port)
    database = postgres.database(f"lake_{between.port}")
    catalog = f"postgres:host=127.0.0.1 port={between.port} {database} connect_timeout=5"
    scene = scenes(broker.bootstrap, catalog=catalog)
    scene.direct = f"postgres:host=127.0.0.1 port={postgres.port} {database}"
    return scene, between
