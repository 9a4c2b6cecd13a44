"""What watches over a running ``up``: metrics and health for those who ask, a call for those who wait for one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import structlog

from pipelines.kafka import Admin
from pipelines.notify.channels.deadman import Deadman
from pipelines.notify.guard import Guard
from schemas.errors import TailraceError
from tailrace import wiring
from tailrace.endpoint import Endpoint, serving
from tailrace.metrics import StageCollector, exposition
from tailrace.settings import Settings
from tailrace.stages import STAGES, Stage
from tailrace.status import status

log = structlog.get_logger()
PROBE_EVERY_S = 5.0
CALL_EVERY_S = 60.0


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
        self._endpoint = Endpoint(settings.web, health=self.health, metrics=self._page) if web else None
        self._deadman = _deadman(settings)

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether all is well, and the state of every part."""
        found = status(self._settings, stages=self._stages)
        states = {name: stage["state"] for name, stage in found["stages"].items()}
        return found["ready"] and self._kafka_up, {"kafka": self._kafka_up, "stages": states}

    @contextmanager
    def over(self, bootstrap_servers: str) -> Iterator[str | None]:
        """Watch for as long as the block lasts; yields the URL of the metrics, None where there are none."""
        stop = threading.Event()
        admin = Admin(wiring.kafka(self._settings, bootstrap_servers))
        works: list[tuple[Callable[[], None], float]] = [(lambda: self._probe(admin), PROBE_EVERY_S)]
        if self._deadman:
            works.append((self._call, self._call_every_s))
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
            for thread in threads:
                thread.join(1.0)  # a probe in the middle of its time-out is left to end with the process

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

    def _call(self) -> None:
        assert self._deadman is not None
        said = self._deadman.call(lambda: self.health()[0])
        kind = said if said in self._calls else "failed"
        self._calls[kind] += 1
        if kind == "failed":
            log.warning("deadman_call_failed", cause=said)


def _again(work: Callable[[], None], stop: threading.Event, every_s: float) -> None:
    while not stop.is_set():
        work()
        stop.wait(every_s)


def _deadman(settings: Settings) -> Deadman | None:
    url = settings.deadman_url.get_secret_value() if settings.deadman_url else ""
    if not url:
        return None
    return Deadman(url, guard=Guard.allowing(settings.webhook_allow_hosts), ca_file=settings.webhook_ca_file)
