"""The job ``evals``: sample the calls of a week, score them, publish each score as an ``eval`` event.

A score that has landed is not made again: a run that was killed anywhere is resumed by what is in the lake. The run
waits for scores that were published and have not landed. The ids of the events depend only on the score, so one that is
published twice lands as a duplicate.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date
from typing import Any, Protocol

import structlog

from jobs.evals.case import Case, Score
from jobs.evals.judge import JUDGE_APP
from jobs.evals.report import EvalReport
from jobs.evals.rows import RunFacts, case_of, event_of, message_of
from jobs.evals.sample import Stratum, plan
from jobs.evals.scorers import SCORERS, Scorer
from jobs.evals.settings import EvalSettings, run_name
from jobs.evals.topics import topics
from jobs.golden.settings import NOT_PRODUCTION
from schemas import faults
from schemas.errors import RetryableError
from warehouse.evals.runs import Done, EvalRun, scored, scoring
from warehouse.evals.sample import Frame, SampleReader
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

log = structlog.get_logger(__name__)
SLICE = 64
"""Calls in memory, and of one publication. A call is at most 1 MiB on the wire."""
_ERROR_CHARS = 200
Message = tuple[bytes, bytes]


class Outlet(Protocol):
    """Where scores go."""

    def publish(self, messages: Iterable[Message]) -> None:
        """Write (key, value) pairs to llm.events; return when all are acknowledged."""

    def catch_up(self) -> bool:
        """Wait until the current end of llm.events has landed; False where that took too long."""


def evals(
    config: LakeConfig,
    outlet: Outlet,
    days: tuple[date, date],
    *,
    now: Callable[[], int],
    settings: EvalSettings | None = None,
    scorers: Sequence[Scorer] = SCORERS,
    owner: str = "",
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, total: None,
    memory_limit: str = "192MiB",
) -> EvalReport:
    """Score a sample of the calls of ``days``.

    Args:
        config: where the lake is; its memory limit is lowered to the job's.
        outlet: where scores go.
        days: first and last day, UTC, both included.
        now: wall clock, µs UTC.
        settings: size, floor, seed, apps, environments, expectations.
        scorers: which.
        owner: who runs it, for the claim.
        stop: asked between slices.
        progress: called with the calls that are scored and all that were drawn.
        memory_limit: of DuckDB.

    Raises:
        LakeMissingError: no lake there.
        EvalRunBusyError: another process scores the same run.
        RetryableError: the brokers or the catalog do not answer; run it again, it goes on where it was.
    """
    began, options = time.monotonic(), settings or EvalSettings()
    run_id = run_name(*days, options)
    limited = replace(config, memory_limit=memory_limit, threads=1)
    with (
        Lake.open(limited, now=now, lander=False, create=False) as lake,
        scoring(lake, run_id, now=now, owner=owner) as run,
    ):
        work = _Run(run, RunFacts(run_id, run.as_of), options, tuple(scorers), outlet)
        if run.resumed and not outlet.catch_up():
            log.warning("eval_scores_not_landed_yet", run_id=run_id)
        with lake.reading() as connection:
            reader = SampleReader(connection, frame_of(days, run.as_of, options), seed=options.seed)
            work.draw(reader)
            done = work.score(reader, scored(lake, run_id, run.as_of), stop=stop, progress=progress)
        if done:
            run.finish()
        report = work.report(done, round(time.monotonic() - began, 3))
    log.info("evals_scored", **{k: v for k, v in asdict(report).items() if k not in ("ok", "scorers")})
    return report


def frame_of(days: tuple[date, date], as_of: int, settings: EvalSettings) -> Frame:
    """Return which calls a run with ``settings`` is about."""
    envs = tuple(env.casefold() for env in settings.envs)
    return Frame(
        *days,
        as_of=as_of,
        apps=settings.apps,
        not_apps=() if settings.apps else (JUDGE_APP,),
        envs=() if "*" in envs else envs,
        not_envs=() if envs else NOT_PRODUCTION,
    )


class _Run:
    """One run: its sample, its scorers and its counts."""

    def __init__(
        self, run: EvalRun, facts: RunFacts, settings: EvalSettings, scorers: tuple[Scorer, ...], outlet: Outlet
    ) -> None:
        self._run, self._facts, self._settings, self._outlet = run, facts, settings, outlet
        self._scorers = [(scorer, scorer.version) for scorer in scorers]
        self._strata: tuple[Stratum, ...] = ()
        self._counts: Counter[str] = Counter()
        self._failed: dict[str, tuple[int, str]] = {}
        self._judged: Counter[str] = Counter()
        """Scorer -> calls with a score, or that it reported as not judgeable before."""
        self._away: dict[str, str] = {}
        """Scorer -> why it cannot score in this run."""

    def draw(self, reader: SampleReader) -> None:
        """Draw the sample."""
        self._strata = plan(reader.groups(topics), size=self._settings.size, floor=self._settings.floor)
        self._run.renew()
        takes = [(group, s.number, s.take) for s in self._strata for group in s.groups]
        self._counts["sampled"] = reader.draw(takes)
        self._run.renew()

    def score(
        self, reader: SampleReader, landed: set[Done], *, stop: Callable[[], bool], progress: Callable[[int, int], None]
    ) -> bool:
        """Score what has not landed, a slice at a time; return False where it was stopped."""
        looked = 0
        for rows in reader.slices(SLICE):
            if stop():
                return False
            messages = self._messages(rows, landed)
            faults.point("evals.before_publish")
            if messages:
                self._outlet.publish(messages)
            faults.point("evals.after_publish")
            self._run.renew()
            looked += len(rows)
            progress(looked, self._counts["sampled"])
        return True

    def _messages(self, rows: Sequence[Mapping[str, Any]], landed: set[Done]) -> list[Message]:
        cases = [case_of(row, self._settings.expect(row)) for row in rows]
        messages: list[Message] = []
        for scorer, version in self._scorers:
            open_ = [i for i, row in enumerate(rows) if (row["call_id"], scorer.name, version) not in landed]
            self._counts["skipped"] += len(rows) - len(open_)
            self._judged[scorer.name] += len(rows) - len(open_)
            messages += self._of_scorer(scorer, [(rows[i], cases[i]) for i in open_])
        self._counts["scores"] += len(messages)
        return messages

    def _of_scorer(self, scorer: Scorer, pairs: Sequence[tuple[Mapping[str, Any], Case]]) -> Iterable[Message]:
        for (row, _), score in zip(pairs, self._scores_of(scorer, [case for _, case in pairs]), strict=True):
            self._counts["not_judgeable"] += bool(score.not_judgeable)
            self._judged[scorer.name] += score.value is not None
            if score.error:
                self._counts["errors"] += 1
                count, first = self._failed.get(scorer.name, (0, score.error))
                self._failed[scorer.name] = (count + 1, first)
            event = event_of(row, score, scorer, run=self._facts, stratum=self._strata[row["stratum"]])
            yield message_of(event)

    def _scores_of(self, scorer: Scorer, cases: Sequence[Case]) -> Sequence[Score]:
        """Return the scores; a scorer whose model is unavailable fails alone, and is not called again in this run."""
        if why := self._away.get(scorer.name):
            return [Score(error=why)] * len(cases)
        try:
            return scorer.score(cases)
        except RetryableError as error:
            self._away[scorer.name] = why = str(error)
            log.warning("scorer_unavailable", scorer=scorer.name, error=why)
            return [Score(error=why)] * len(cases)

    def report(self, done: bool, took_s: float) -> EvalReport:
        """Return what was done."""
        return EvalReport(
            ok=all(self._judged[name] for name in self._failed),
            done=done,
            took_s=took_s,
            run_id=self._facts.run_id,
            calls=sum(s.calls for s in self._strata),
            with_text=sum(s.with_text for s in self._strata),
            strata=len(self._strata),
            sampled=self._counts["sampled"],
            scores=self._counts["scores"],
            skipped=self._counts["skipped"],
            not_judgeable=self._counts["not_judgeable"],
            errors=self._counts["errors"],
            scorers={scorer.name: version for scorer, version in self._scorers},
            failed={
                name: f"{'' if self._judged[name] else 'all '}{count} call{'s' if count > 1 else ''}, the first error: "
                f"{first[:_ERROR_CHARS]}"
                for name, (count, first) in self._failed.items()
            },
        )
