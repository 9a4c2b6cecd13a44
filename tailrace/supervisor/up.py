"""``tailrace up``: all stages, or some, and unless Kafka is given the embedded broker; restarts what ends or hangs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

import structlog

from schemas.errors import SettingsError, TailraceError
from tailrace.broker import Broker
from tailrace.broker.config import external_listeners
from tailrace.home.env_file import load_line, write_env
from tailrace.home.layout import Home
from tailrace.home.people import key_file, people
from tailrace.settings.model import Settings
from tailrace.supervisor.echo import Echo
from tailrace.supervisor.ownership import owned_home
from tailrace.supervisor.signals import on_stop_signals
from tailrace.supervisor.stages import STAGES, Stage
from tailrace.supervisor.supervisor import Supervisor

log = structlog.get_logger()
LOOK_EVERY_S = 0.2
BROKER_AGAIN_S = 5.0
ENDED_WITHIN_S = 9.5
"""From SIGTERM to the last process; half a second less than is promised."""
BROKER_STOP_LEAST_S = 2.0
"""It takes 1 s."""


@contextlib.contextmanager
def kafka(settings: Settings) -> Iterator[tuple[str, Broker | None]]:
    """Yield the brokers' address: the given one, or that of an embedded broker that runs as long as the block."""
    if settings.kafka.bootstrap_servers:
        yield settings.kafka.bootstrap_servers, None
        return
    extra = external_listeners(settings.kafka.listen)
    broker = Broker(settings.home, heap_mb=settings.kafka.heap_mb, java_home=settings.kafka.java, extra=extra)
    broker.start()
    try:
        yield broker.bootstrap, broker
    finally:
        broker.stop()


@contextlib.contextmanager
def running(
    settings: Settings, *, stages: Sequence[Stage] = STAGES, environment: dict[str, str] | None = None
) -> Iterator[tuple[Supervisor, Broker | None]]:
    """Broker, topics and stages, all stopped at the end of the block; ``environment`` is added to the stages' own.

    Raises:
        HomeInUseError: another process supervises this home.
    """
    from tailrace import wiring

    with owned_home(Home(settings.home)), kafka(settings) as (bootstrap, broker):
        wiring.make_topics(settings, bootstrap)
        wiring.announce_prices(settings, bootstrap)
        write_env(Home(settings.home), bootstrap, settings.kafka.prefix)
        supervisor = Supervisor(settings, bootstrap, stages=stages, environment=environment)
        try:
            yield supervisor, broker
        finally:
            supervisor.stop()
            if broker is not None:
                broker.stop(max(BROKER_STOP_LEAST_S, ENDED_WITHIN_S - supervisor.stopping_s))


KEY_MADE = (
    "# user ids that look like a mail address, a phone number or a name are stored as pseudonyms under the key {}; "
    "another home gets the same pseudonyms with a copy of that file"
)


def up(
    settings: Settings,
    *,
    stages: Sequence[Stage] = STAGES,
    announce: Callable[[str], None] = lambda _: None,
    web: bool = True,
    echo: bool = False,
) -> None:
    """Run until SIGTERM or SIGINT. All has ended 10 s after it.

    Args:
        settings: of everything.
        stages: which to run.
        announce: prints a line for a person.
        web: whether metrics and health are served.
        echo: whether the stages' logs are copied to stdout.

    Raises:
        HomeInUseError: another process supervises this home.
        SettingsError: metrics would be served on an address that is not loopback, the dead-man's URL is refused, or
            a part of the stages is started without a Kafka that the others reach.
    """
    from tailrace.monitor.watch import Watch

    _require_shared_kafka(settings, stages)
    first = not key_file(settings).exists()
    rule = people(settings)  # the stages would make the key as well; here its owner reads of it
    stop = on_stop_signals()
    watch = Watch(settings, stages=stages, web=web)  # before anything starts: what it refuses is a setting
    home = Home(settings.home)
    with (
        closing(Echo(home.log_file(stage.name) for stage in stages if echo)) as shown,
        running(settings, stages=stages) as (supervisor, broker),
        watch.over(supervisor.bootstrap_servers) as url,
    ):
        supervisor.web = url
        announce(load_line(settings.home / "env"))
        if first and rule and key_file(settings).exists():
            announce(KEY_MADE.format(key_file(settings)))
        while not stop.wait(LOOK_EVERY_S):
            supervisor.broker_pid = broker.guard_pid if broker else None
            supervisor.look()
            shown.look()
            if broker is not None and not broker.alive:
                _start_again(broker, stop)
        supervisor.terminate()  # at once: the metrics and the probes take a second to end


def _require_shared_kafka(settings: Settings, stages: Sequence[Stage]) -> None:
    """Refuse to start a part of the stages with an embedded broker, which the others would not reach."""
    if len(stages) < len(STAGES) and not settings.kafka.bootstrap_servers:
        raise SettingsError(
            "kafka.bootstrap_servers",
            f"stage {', '.join(stage.name for stage in stages)} alone needs the Kafka of the other stages",
            "set TAILRACE_KAFKA__BOOTSTRAP_SERVERS",
        )


def _start_again(broker: Broker, stop: threading.Event) -> None:
    """Restart the broker; where it does not start (a full disk, a slow machine) the next look tries again."""
    log.error("broker_died")
    try:
        broker.stop()
        broker.start()
    except (TailraceError, OSError) as error:
        log.error("broker_not_back", cause=str(error), retry_in_s=BROKER_AGAIN_S)
        stop.wait(BROKER_AGAIN_S)
