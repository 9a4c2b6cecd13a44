"""One Tailrace under test: a home, topics with a prefix of its own, stages that are real processes."""

import json
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fault_harness import invariants
from fault_harness.process import Process, clean_environment, stage, wait_until
from fault_harness.rawlake import RawLake
from fault_harness.traffic import PRICES, Traffic
from fault_harness.zygote import run_command
from pipelines.kafka import Admin, KafkaConfig
from schemas.topics import EVENTS, TOPICS
from tailrace.home.layout import Home
from warehouse.storage.connect import LakeConfig
from warehouse.verify.verify import verify

CATCH_UP_S = 60.0


class Scene:
    """``start`` stages, ``traffic`` to them, then ``check``."""

    def __init__(
        self,
        bootstrap: str,
        home: Path,
        *,
        partitions: int = 2,
        catalog: str = "",
        data_path: str = "",
        prefix: str | None = None,
        settings: Mapping[str, str] = {},
    ) -> None:
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        prefix = f"f-{uuid.uuid4().hex[:8]}." if prefix is None else prefix
        self.kafka = KafkaConfig(bootstrap, prefix)
        self.admin = Admin(self.kafka)
        # stages that read only part of the topics are happy; all of them must exist
        self.admin.create_topics(TOPICS, partitions=partitions, replication=1)
        self.traffic = Traffic(bootstrap, prefix + EVENTS)
        self.processes: list[Process] = []
        self.kills = 0
        self.settings = {
            "TAILRACE_HOME": str(home),
            "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "TAILRACE_KAFKA__PREFIX": prefix,
            "TAILRACE_KAFKA__PARTITIONS": str(partitions),
            "TAILRACE_LAND__BATCH_WAIT_S": "0.2",
            "TAILRACE_PRICES": json.dumps(PRICES),
            **({"TAILRACE_LAKE__CATALOG": catalog} if catalog else {}),
            **({"TAILRACE_LAKE__DATA_PATH": data_path} if data_path else {}),
            **settings,
        }
        self.catalog = catalog or str(Home(home).catalog)
        self.data_path = Path(data_path or Home(home).data_path)
        self.direct = self.catalog
        """The catalog past any proxy: what the checks read."""

    @property
    def lake_config(self) -> LakeConfig:
        return LakeConfig(self.direct, str(self.data_path))

    @property
    def lake(self) -> RawLake:
        return RawLake(self.direct, self.data_path)

    def environment(self, **more: str) -> dict[str, str]:
        return {**clean_environment(), **self.settings, **more}

    def start(self, name: str = "land", *, fault: str = "", **more: str) -> Process:
        """Start a stage; ``fault`` is a crash plan such as ``land.after_insert:kill``."""
        extra = {"TAILRACE_FAULT": fault} if fault else {}
        home = Path(more.get("TAILRACE_HOME", self.home))  # a copy has a home, and so a log, of its own
        process = stage(name, home, self.environment(**extra, **more))
        self.processes.append(process)
        return process

    def tailrace(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end."""
        return run_command(arguments, env=self.environment(**more))

    def killed(self, process: Process, within_s: float = 60) -> None:
        """Wait until a planned crash has happened."""
        code = process.ended(within_s)
        assert code in (-9, 137), f"{process.name} ended with {code}, not by the planned SIGKILL\n{process.tail()}"
        self.kills += 1

    def facts(self, name: str = "land") -> dict[str, Any]:
        """What a stage last said of itself."""
        return Home(self.home).read_run(name) or {}

    def caught_up(self) -> bool:
        """Whether every acknowledged event is below the ledger."""
        ledger = self.lake.ledger()
        tops: dict[int, int] = {}
        for partition, offset in self.traffic.sent.positions:
            tops[partition] = max(tops.get(partition, 0), offset + 1)
        if not all(ledger.get(p, (0, 0))[1] >= top for p, top in tops.items()):
            return False
        unplaced = self.traffic.sent.unplaced
        return not unplaced or unplaced <= {str(name) for (name,) in self.lake.rows("raw_calls", "id")}

    def settle(self, within_s: float = CATCH_UP_S) -> None:
        """V: everything acknowledged has landed."""
        self.traffic.flush()
        wait_until(self.caught_up, within_s, "everything acknowledged has landed", self.tails)

    def healthy(self, name: str = "land", within_s: float = 30) -> None:
        """V: the stage says lag 0 and no error."""

        def fine() -> bool:
            said = self.facts(name)
            facts = said.get("facts", {})
            return said.get("state") == "running" and facts.get("lag") == 0 and not said.get("error")

        wait_until(fine, within_s, f"{name} is healthy with lag 0", lambda: f"{self.facts(name)}\n{self.tails()}")

    def metered(self, within_s: float = 60) -> None:
        """Wait until the landed rollups hold every call once, and cost what the ledger says."""
        expected = (len(self.traffic.sent.ids), self.traffic.sent.usd)

        def equal() -> bool:
            found = invariants.rolled_up(self.lake)
            assert found[0] <= expected[0], f"rollups count {found[0]} calls of {expected[0]}"
            return found == expected

        wait_until(equal, within_s, "rollups equal the ledger", lambda: f"{invariants.rolled_up(self.lake)} {expected}")

    def check(self, *, kills: int | None = None) -> None:
        """P O L M R from the raw files, and the verify that people run."""
        # a land that lives may have files of a transaction in flight
        in_flight = sum(p.alive for p in self.processes if p.name == "land")
        kills = self.kills if kills is None else kills
        invariants.everything(self.lake, self.traffic.sent, kills=kills + in_flight)
        self.verified()

    def verified(self) -> None:
        report = verify(self.lake_config)
        assert report.ok, report.problems

    def tails(self) -> str:
        return "\n".join(p.tail() for p in self.processes[-4:]) + f"\nledger {self.lake.ledger()}"

    def land_until_settled(self, **how: Any) -> Process:
        """Start land again and wait until all is in."""
        process = self.start("land", **how)
        self.settle()
        return process

    def close(self) -> None:
        for process in self.processes:
            if process.alive:
                process.cont()
                process.kill()


def spread(scene: Scene, seconds: float, per_s: int = 200) -> None:
    """Emit for a while at a steady rate."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        scene.traffic.good(max(1, per_s // 10))
        time.sleep(0.1)
