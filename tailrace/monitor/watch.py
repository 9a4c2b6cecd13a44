"""What watches over a running ``up``: metrics and health for those who ask, a call for those who wait for one.

And alerts about the stages themselves, which need no stage to arrive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import structlog

from pipelines.clock import now_us
from pipelines.kafka import Admin
from pipelines.notify.channels.deadman import Deadman
from pipelines.notify.guard import Guard
from schemas.errors import SettingsError, TailraceError
from schemas.releases import Release
from tailrace import wiring
from tailrace.home import disk
from tailrace.home.layout import Home
from tailrace.monitor.endpoint import Endpoint, serving
from tailrace.monitor.export import Exporter
from tailrace.monitor.metrics import StageCollector, exposition
from tailrace.monitor.status import status
from tailrace.records.release import marks, send
from tailrace.records.release_api import ReleaseApi
from tailrace.settings.model import Settings
from tailrace.supervisor.stage_alerts import StageAlerts
from tailrace.supervisor.stages import STAGES, Stage
from warehouse.errors import LakeMissingError

log = structlog.get_logger()
PROBE_EVERY_S = 5.0
STAGES_EVERY_S = 1.0
CALL_EVERY_S = 60.0
LIVE_S = 60.0
"""The supervisor writes its report five times a second; an older one than this means that it hangs. A start of the
embedded broker after a kill takes up to 30 s, in which it writes none."""


class Watch:
    """The supervisor's own look at the whole: do the brokers answer, are all stages well.

    Raises:
        SettingsError: an address without a token that is not loopback; a dead-man's URL that the guard refuses.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        stages: Sequence[Stage] = STAGES,
        web: bool = True,
        call_every_s: float = CALL_EVERY_S,
    ) -> None:
        self._settings, self._stages = settings, stages
        self._call_every_s = call_every_s
        self._kafka_up = False
        self._calls = {"called": 0, "withheld": 0, "failed": 0}
        self._collector = StageCollector(settings, stages=stages, more=self._numbers)
        self._exporter = Exporter(settings.monitoring, Home(settings.home), self._collector.collect)
        self._bootstrap_servers = ""
        releases = ReleaseApi(known=self._releases, send=self._send_release, now=now_us)
        endpoint = partial(Endpoint, settings.web, health=self.health, metrics=self._page, live=self.live)
        self._endpoint = endpoint(release=releases.receive) if web else None
        self._deadman = _deadman(settings)
        self._alerts = StageAlerts(Home(settings.home), lambda: wiring.notify(settings), now_us)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether all is well, and the state of every part."""
        found = status(self._settings, stages=self._stages)
        states = {name: stage["state"] for name, stage in found["stages"].items()}
        return found["healthy"] and self._kafka_up, {"kafka": self._kafka_up, "stages": states}

    def live(self) -> bool:
        """Return whether the supervisor still looks after its stages."""
        report = Home(self._settings.home).read_run("up")
        return report is not None and (now_us() - report["at"]) / 1e6 < LIVE_S

    @contextmanager
    def over(self, bootstrap_servers: str) -> Iterator[str | None]:
        """Watch for as long as the block lasts; yields the URL of the metrics, None where there are none."""
        self._bootstrap_servers = bootstrap_servers
        stop = threading.Event()
        admin = Admin(wiring.kafka(self._settings, bootstrap_servers))
        works: list[tuple[Callable[[], None], float]] = [
            (lambda: self._probe(admin), PROBE_EVERY_S),
            (self._look_at_stages, STAGES_EVERY_S),
            (self._look_at_disks, disk.EVERY_S),
        ]
        if self._deadman:
            works.append((self._call, self._call_every_s))
        if self._exporter.wanted:
            works.append((self._exporter.send, self._settings.monitoring.every_s))
        threads = [threading.Thread(target=_again, args=(work, stop, s), daemon=True) for work, s in works]
        for thread in threads:
            thread.start()
        endpoint = serving(self._endpoint, self._settings.web) if self._endpoint else nullcontext()
        try:
            with endpoint as url:
                log.info("watch_started", url=url, deadman=self._deadman is not None)
                yield url
        finally:
            stop.set()
            deadline = time.monotonic() + 1.0
            for thread in threads:  # a probe in the middle of its time-out is left to end with the process
                thread.join(max(0.0, deadline - time.monotonic()))
            self._exporter.close()

    def _releases(self, app: str) -> list[Release]:
        """Return the marks that have landed; none where there is no lake yet."""
        try:
            with wiring.open_lake(self._settings) as lake:
                return marks(lake, app)
        except LakeMissingError:
            return []

    def _send_release(self, release: Release) -> None:
        send(wiring.kafka(self._settings, self._bootstrap_servers), release)

    def _page(self) -> bytes:
        return exposition(self._collector)

    def _numbers(self) -> dict[str, Any]:
        calls = {f"deadman_{outcome}": count for outcome, count in self._calls.items()} if self._deadman else {}
        return {"kafka_up": self._kafka_up, **calls}

    def _probe(self, admin: Admin) -> None:
        try:
            admin.topics()
            answers = True
        except TailraceError as error:
            answers = False
            if self._kafka_up:
                log.error("kafka_unreachable", cause=str(error))
        self._kafka_up = answers

    def _look_at_disks(self) -> None:
        home = Home(self._settings.home)
        try:
            disk.sample(home, self._settings.lake.data_path or str(home.data_path), at=now_us())
        except (OSError, TailraceError) as error:
            log.warning("disk_not_looked_at", cause=str(error))

    def _look_at_stages(self) -> None:
        """Send alerts about the stages themselves; no stage is needed for that."""
        supervised = (Home(self._settings.home).read_run("up") or {}).get("stages", {})
        failing = {name: stage["failing"] for name, stage in supervised.items() if stage.get("failing")}
        found = status(self._settings, stages=self._stages)["stages"]
        well = {name for name, stage in found.items() if stage["state"] == "running"}
        for name, stage in found.items():
            if left_out := stage["isolated"]:
                failing[f"{name}: every detector"] = isolated(name, left_out)
            elif name in well:
                well.add(f"{name}: every detector")
        try:
            self._alerts.step(failing, well)
        except SettingsError as error:  # a file with a secret was deleted since the start
            log.error("stage_alert_not_sent", cause=str(error))

    def _call(self) -> None:
        assert self._deadman is not None
        outcome = self._deadman.call(lambda: self.health()[0])
        kind = outcome if outcome in self._calls else "failed"
        self._calls[kind] += 1
        if kind == "failed":
            log.warning("deadman_call_failed", cause=outcome)


def _again(work: Callable[[], None], stop: threading.Event, every_s: float) -> None:
    while not stop.is_set():
        work()
        stop.wait(every_s)


def isolated(stage: str, left_out: Sequence[str]) -> dict[str, Any]:
    """Facts of the alert that a stage judges without some of its detectors."""
    more = f", and {len(left_out) - 1} more" if len(left_out) > 1 else ""
    return {
        "position": left_out[0],
        "ends": len(left_out),
        "cause": "it raised an error",
        "title": f"stage {stage}: {left_out[0]}{more}: it raised an error; the others go on",
        "runbook": (
            f"logs/{stage}.log in the home has the error, at the event detector_isolated; please report it as a bug",
            "incidents of that detector stay open until it judges again; those of the others are not touched",
            "an upgrade tries the detector again; so does the stage without isolated.json of its state folder",
        ),
    }


def _deadman(settings: Settings) -> Deadman | None:
    url = settings.deadman_url.get_secret_value() if settings.deadman_url else ""
    if not url:
        return None
    return Deadman(url, guard=Guard.allowing(settings.webhook_allow_hosts), ca_file=settings.webhook_ca_file)
