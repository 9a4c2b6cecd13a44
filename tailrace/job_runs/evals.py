"""From a command's context to a run of evals, and to the numbers of its report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import date, timedelta

from jobs.evals.bootstrap import REPLICATES
from jobs.evals.expect import NEED_RULES, Rules
from jobs.evals.job import evals
from jobs.evals.outlet import KafkaOutlet
from jobs.evals.report import EvalReport
from jobs.evals.scorers import CrossEncoder, Embedding, choose, scorers_with
from jobs.evals.settings import run_name
from jobs.evals.summary import Period, Summary, summarise
from pipelines.clock import now_us
from schemas.errors import FatalError
from tailrace import job_wiring, wiring
from tailrace.cli.context import Context
from tailrace.gate.lake import waiting
from tailrace.job_runs.judge import NOT_CONFIGURED, judge_scorers, options
from warehouse.evals.scores import StoredRun, runs, scores
from warehouse.query.readonly import ReadOnlyLake

Days = tuple[date, date]


class NoScoresError(FatalError):
    """No scores of these days have landed."""

    def __init__(self, catalog: str, days: Days) -> None:
        super().__init__(f"lake {catalog} has no scores of {days[0]} to {days[1]}: `tailrace eval run` makes them")


def run_evals(
    here: Context,
    days: Days,
    *,
    names: Sequence[str] = (),
    apps: Sequence[str] = (),
    size: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvalReport:
    """Score a sample of the calls of ``days``, by the settings where nothing else is named."""
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    lake = wiring.lake(here.settings)
    chosen = names or here.settings.evals.scorers
    embedding = Embedding(replace(wiring.embed(here.settings), threads=0))  # drift's threads are for a live stage
    model = here.settings.evals.nli_model
    with (
        ExitStack() as models,
        judge_scorers(here, chosen) as judged,
        KafkaOutlet(kafka, lake, stop=stop) as outlet,
    ):
        models.callback(embedding.close)
        cross = models.enter_context(closing(CrossEncoder(model))) if model else None
        rules = Rules.read(here.settings.evals.expect)
        known = scorers_with(embedding, cross, k=here.settings.evals.retrieval_k)
        scorers = rules.applied_to(choose(chosen, (*known, *judged)))
        if not (chosen or rules.rules):
            scorers = tuple(scorer for scorer in scorers if scorer.name not in NEED_RULES)
        return evals(
            lake,
            outlet,
            days,
            now=now_us,
            settings=job_wiring.evals(here.settings, apps=apps, size=size),
            scorers=scorers,
            stop=stop,
            progress=progress,
        )


def landed(here: Context, *, stop: Callable[[], bool] = lambda: False) -> bool:
    """Wait until all that was published has landed; return False where that took too long."""
    kafka = wiring.kafka(here.settings, here.bootstrap_servers)
    with KafkaOutlet(kafka, wiring.lake(here.settings), stop=stop) as outlet:
        return outlet.catch_up()


def summary_of(here: Context, lake: ReadOnlyLake, days: Days) -> Summary:
    """Return the numbers of ``days``, compared with as many days before.

    Raises:
        NoScoresError: there are none.
    """
    run = _chosen(here, runs(lake, *days), days)
    if run is None:
        raise NoScoresError(wiring.lake(here.settings).name, days)
    length = days[1] - days[0] + timedelta(days=1)
    earlier = (days[0] - length, days[1] - length)
    old = _chosen(here, runs(lake, *earlier), earlier)
    return summarise(
        scores(lake, run.run_id, *days),
        scores(lake, old.run_id, *earlier) if old else None,
        period=Period(*days, run.run_id),
        baseline=Period(*earlier, old.run_id) if old else None,
        missing=(*(() if options(here.settings) else (NOT_CONFIGURED,)), *waiting(lake, at=now_us())),
        replicates=REPLICATES if here.settings.evals.intervals == "bootstrap" else 0,
    )


def _chosen(here: Context, found: Sequence[StoredRun], days: Days) -> StoredRun | None:
    """Return the run with the sample of the settings, else the newest."""
    name = run_name(*days, job_wiring.evals(here.settings))
    return next((run for run in found if run.run_id == name), found[0] if found else None)
