"""From settings to the judge's scorers. Its calls are events of app ``tailrace-judge``, priced like any other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import structlog

from jobs.evals.judge import JUDGE_APP
from jobs.evals.judge.build import JudgeOptions, Judges, build
from jobs.evals.scorers import Scorer, deepeval_metrics, ragas_metrics
from pipelines.clock import now_us
from schemas.errors import SettingsError
from schemas.topics import EVENTS
from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.settings.model import Settings

log = structlog.get_logger(__name__)
_RETRIES = 4
NOT_EVENTS = (
    "the judge's calls are not sent as events: no Kafka is set, and no Tailrace runs in this home; "
    "set TAILRACE_KAFKA__BOOTSTRAP_SERVERS to see their cost in the lake"
)
NOT_CONFIGURED = "no judge is configured; set judge.url and judge.model (docs/how-to/evals.md)"


def options(settings: Settings) -> JudgeOptions | None:
    """Return how the judge is reached; None where none is configured.

    Raises:
        SettingsError: only one of address and model is set, or the address is no HTTP address.
    """
    section = settings.judge
    if not section.url and not section.model:
        return None
    if not section.url or not section.model:
        name = "judge.model" if section.url else "judge.url"
        raise SettingsError(name, "it is missing", "set judge.url and judge.model, or none of them")
    if urlsplit(section.url).scheme not in ("http", "https") or not urlsplit(section.url).hostname:
        raise SettingsError(
            "judge.url", "it is no http or https address", "write one such as https://api.example.org/v1"
        )
    return JudgeOptions(
        section.model,
        section.url,
        section.rubrics,
        samples=section.samples,
        per_minute=section.per_minute,
        workers=section.workers,
        spend_limit=section.spend_limit_usd or None,
    )


@contextmanager
def judge_scorers(
    here: Context, names: Sequence[str] = (), *, without_kafka: bool = False
) -> Iterator[tuple[Scorer, ...]]:
    """Yield the judge's scorers; none where no judge is configured, or ``names`` names none of its scorers.

    Metrics of RAGAS and DeepEval are among them where they are named.

    Args:
        here: settings and home.
        names: the scorers to yield; empty: all.
        without_kafka: where no Kafka is known, judge all the same, and send no event of a judge's call.

    Raises:
        NotRunningError: no Kafka is known, and ``without_kafka`` is off.
        SettingsError: a scorer of the judge is named, and no judge is configured; or the library of one is missing.
        RubricError: a rubric cannot be used.
    """
    wanted = [name for name in names if name.startswith(("judge.", "ragas.", "deepeval."))]
    found = options(here.settings)
    if wanted and found is None:
        raise SettingsError("scorer", f"{wanted[0]} needs a judge, and {NOT_CONFIGURED}", "or leave it out")
    if found is None or (names and not wanted):
        yield ()
        return
    bootstrap = here.known_bootstrap_servers if without_kafka else here.bootstrap_servers
    with _judges(here, found, wanted, bootstrap) as judges:
        yield (*judges.scorers, *_of_libraries(wanted, judges, found))


def _of_libraries(names: Sequence[str], judges: Judges, found: JudgeOptions) -> Iterator[Scorer]:
    """Yield the metrics of other libraries among ``names``."""
    for name in names:
        if name in ragas_metrics.METRICS:
            yield ragas_metrics.ragas_scorer(name, judges.cache, found.model, workers=found.workers)
        elif name in deepeval_metrics.METRICS:
            yield deepeval_metrics.deepeval_scorer(name, judges.cache, found.model, workers=found.workers)


@contextmanager
def _judges(here: Context, found: JudgeOptions, wanted: Sequence[str], bootstrap: str | None) -> Iterator[Judges]:
    from jobs.evals.judge.pricing import price_by
    from pipelines.pricing import default_book

    settings = here.settings
    price = price_by(default_book(settings.prices), urlsplit(found.url).hostname or "", now=now_us)
    cache = here.home.folder("evals") / "judge.sqlite"
    with (
        _client(settings, found, bootstrap) as client,
        build(found, client, price, cache, now=now_us, only=wanted) as j,
    ):
        try:
            yield j
        finally:
            log.info("judge_spent", usd=str(j.spend.spent), replies_without_a_cost=j.spend.unpriced)


@contextmanager
def _client(settings: Settings, found: JudgeOptions, bootstrap: str | None) -> Iterator[Any]:
    """Yield the client of the judge's endpoint, whose calls are events where Kafka is known."""
    key = settings.judge.api_key.get_secret_value() if settings.judge.api_key else "none"
    reached: dict[str, Any] = {
        **{"base_url": found.url, "api_key": key, "max_retries": _RETRIES},
        "timeout": settings.judge.timeout_s,
    }
    if bootstrap is None:
        import openai

        with openai.OpenAI(**reached) as client:
            yield client
        return
    from tailrace_emitter.emitter import Emitter
    from tailrace_emitter.openai import OpenAI

    kafka = wiring.kafka(settings, bootstrap)
    emitter = Emitter(
        JUDGE_APP,
        bootstrap_servers=kafka.bootstrap_servers,
        topic=kafka.on_wire(EVENTS),
        content="none",  # the texts are in the lake already
        kafka=kafka.client,
        sigterm=False,
    )
    try:
        yield OpenAI(**reached, tailrace=emitter)
    finally:
        emitter.close()
