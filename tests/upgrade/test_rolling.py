"""The home of v0.1.0 under load: its stages are stopped and started one by one in this version, while events flow.

The stages that run first are those of v0.1.0 itself, out of this repository's history.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from fault_harness import invariants
from fault_harness.cast import READY
from fault_harness.process import REPO, Command, Process, wait_until
from fault_harness.receiver import Receiver
from fault_harness.rest import tops
from fault_harness.scene import Scene, spread
from fault_harness.traffic import call

from pipelines.detect.checkpoint import CHANGELOG
from pipelines.kafka import read_all
from schemas.topics import ROLLUPS
from tailrace.broker import Broker
from tailrace.home.layout import Home

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
RELEASE = "73e158d"
"""The commit of v0.1.0."""
PACKED = Path(__file__).parents[1] / "fixtures" / "home-0.1.0.tar.gz"
ORDER = ("land", "meter", "detect", "notify")
"""land first: the others read the lake that it migrates."""
LIMIT = {"TAILRACE_RULES__SINGLE_CALL_USD": "1"}
"""A call above it is an alert at once, for an app that nobody knows too."""


class Rolling:
    """The fixture's home, with stages of either version, and events that flow."""

    def __init__(self, scene: Scene, old: Path) -> None:
        self.scene, self._old = scene, old
        self.running: dict[str, Process] = {}
        self.expensive: list[str] = []
        """Apps of which one call is above the limit: each is one alert."""

    def start_old(self, name: str) -> None:
        path = os.pathsep.join((str(self._old), str(self._old / "emitter")))
        environment = self.scene.environment(PYTHONPATH=path)
        log = Home(self.scene.home).log_file(name)
        command = [sys.executable, "-m", "tailrace", name]
        self.running[name] = Command(name, command, log, environment, cwd=self._old)

    def replace(self, name: str) -> None:
        """Stop a stage, and start it in this version."""
        old = self.running[name]
        assert old.terminate(30) == 0, old.tail()
        self.running[name] = self.scene.start(name)
        self.running[name].says(READY[name], 120)

    def exceed(self) -> None:
        """One call above the limit, of a new app."""
        self.expensive.append(f"expensive-{len(self.expensive)}")
        self.scene.traffic.send(call(app=self.expensive[-1], tokens={"input": 1_000_000, "output": 1}))

    @contextmanager
    def load(self) -> Iterator[None]:
        """Events all the time while the block runs."""
        finished, errors = threading.Event(), list[BaseException]()

        def run() -> None:
            try:
                while not finished.is_set():
                    spread(self.scene, 0.5)
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            finished.set()
            thread.join()
        if errors:
            raise errors[0]

    def landed_after(self, count: int) -> None:
        """Wait until so many more calls have landed."""
        before = len(self.scene.lake.rows("raw_calls", "id"))
        wait_until(
            lambda: len(self.scene.lake.rows("raw_calls", "id")) >= before + count, 120, "calls land", self.tails
        )

    def tails(self) -> str:
        return "\n".join(process.tail() for process in self.running.values())

    def close(self) -> None:
        for process in self.running.values():
            process.kill()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The code of v0.1.0; skips where the history is not there."""
    packed = subprocess.run(["git", "archive", RELEASE], cwd=REPO, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"commit {RELEASE} (v0.1.0) is not in this clone's history")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        tar.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Where alerts are sent."""
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
def rolling(old: Path, tmp_path: Path, receiver: Receiver) -> Iterator[Rolling]:
    """The fixture's home with its own broker and topics."""
    with tarfile.open(PACKED) as tar:
        tar.extractall(tmp_path, filter="data")
    home = tmp_path / "home"
    with Broker(home) as broker:
        scene = Scene(broker.bootstrap, home, partitions=4, prefix="", settings={**receiver.settings, **LIMIT})
        running = Rolling(scene, old)
        yield running
        running.close()
        scene.close()


def upgrade_check(scene: Scene) -> str:
    found = scene.tailrace("upgrade", "--check")
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


@pytest.mark.row(69, 73)
def test_stages_of_v0_1_0_are_replaced_one_by_one_under_load_and_nothing_is_lost_or_doubled(
    rolling: Rolling, receiver: Receiver
) -> None:
    scene = rolling.scene
    expected = json.loads((scene.home / "expected.json").read_text())
    before = {str(i) for (i,) in scene.lake.rows("raw_calls", "id")}
    assert len(before) == int(expected["calls"])
    for name in ORDER:
        rolling.start_old(name)
    for name in ORDER:
        rolling.running[name].says(READY[name], 120)
    with rolling.load():
        rolling.exceed()
        rolling.landed_after(300)
        judged = tops(scene, ROLLUPS)
        wait_until(lambda: saved(scene, judged), 120, "v0.1.0 wrote states of these apps", rolling.tails)
        announced = upgrade_check(scene)
        for name in ORDER:
            rolling.exceed()
            rolling.replace(name)
            rolling.exceed()
            rolling.landed_after(300)
    sent = scene.traffic.sent
    scene.settle(180)

    def metered() -> bool:
        return invariants.rolled_up(scene.lake) == (
            len(sent.ids) + int(expected["metered"]),
            sent.usd + Decimal(expected["cost_usd"]),
        )

    wait_until(metered, 120, "rollups count every call once", lambda: f"{invariants.rolled_up(scene.lake)}")
    wait_until(lambda: len(alerted(scene)) >= len(rolling.expensive), 120, "every alert has landed", rolling.tails)

    invariants.positions(scene.lake)
    invariants.deliveries(scene.lake, sent)
    landed = {str(i) for (i,) in scene.lake.rows("raw_calls", "id")}
    assert landed == sent.ids | before
    assert alerted(scene) == dict.fromkeys(rolling.expensive, 1), "one incident an app, before and after"
    ids = {str(i) for (i,) in scene.lake.rows("alerts", "id", "detector = 'ceiling' AND state = 'firing'")}

    def delivered() -> bool:
        return ids <= {name.rpartition("-")[0] for name in receiver.bodies}

    wait_until(delivered, 60, "every alert is delivered", rolling.tails)
    assert all(len(bodies) == 1 for bodies in receiver.bodies.values()), "one id with two bodies"
    scene.verified()
    assert scene.facts("detect")["facts"]["poison"] == 0, "a record that detect could not judge"
    assert "this Tailrace writes version" in announced
    assert "detect, partition 0: state of version" in announced
    after = upgrade_check(scene)
    assert "the lake is of version" in after
    assert "nothing would change" in after.splitlines()[0]


def saved(scene: Scene, upto: dict[int, int]) -> bool:
    """Whether every checkpoint of detect is of later than ``upto``."""
    heads = {
        r.key: json.loads(r.value or b"{}")
        for r in read_all(scene.kafka, CHANGELOG)
        if r.key and r.key.endswith(b"/head")
    }
    return all(heads.get(b"%d/head" % p, {"position": -1})["position"] >= top for p, top in upto.items())


def alerted(scene: Scene) -> dict[str, int]:
    """App -> incidents of its single call."""
    rows = scene.lake.rows("alerts", "series, count(DISTINCT id)", "detector = 'ceiling' GROUP BY series")
    return {json.loads(series)["app"]: int(count) for series, count in rows}
