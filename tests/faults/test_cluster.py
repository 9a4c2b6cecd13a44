"""Three brokers, three replicas, two of them in sync: one broker is killed under load, and comes back."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_harness.cluster import Cluster
from fault_harness.scene import Scene, spread

from pipelines.kafka import Admin, KafkaConfig
from schemas.topics import TOPICS

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    running = Cluster(tmp_path / "cluster")
    yield running
    running.close()


def test_a_broker_of_three_is_killed_under_load_and_nothing_is_lost_or_doubled(
    cluster: Cluster, scenes: Callable[..., Scene], prefix: str
) -> None:
    Admin(KafkaConfig(cluster.bootstrap, prefix)).create_topics(TOPICS, partitions=6, replication=3)
    replicated = {"TAILRACE_KAFKA__REPLICATION": "3"}
    scene = scenes(cluster.bootstrap, prefix=prefix, partitions=6, settings=replicated)
    for stage in ("land", "meter"):
        scene.start(stage)
    spread(scene, 4.0)
    cluster.kill(2)
    spread(scene, 8.0)
    scene.settle(180)
    scene.metered(180)
    cluster.start(2)
    spread(scene, 4.0)
    cluster.kill(3)
    spread(scene, 4.0)
    scene.settle(180)
    scene.metered(180)
    scene.check()
