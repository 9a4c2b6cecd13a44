"""The job ``evals``: sample the calls of a week, score them, publish each score as an ``eval`` event.

A score that has landed is not made again: a run that was killed anywhere is resumed by what is in the lake. What was
published and has not landed is waited for; the ids of the events do not depend on who made them, so one that is
published twice lands as a duplicate.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date, timedelta
from typing import Any, Protocol

import msgspec
import structlog

from jobs.evals.case import NOTHING_EXPECTED, Case, Expectation, Score
from jobs.evals.judge import JUDGE_APP
from jobs.evals.rows import RunFacts, case_of, event_of, message_of
from jobs.evals.sample import Stratum, plan
from jobs.evals.scorers import SCORERS, Scorer
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
        """Wait until what stands in llm.events now has landed; False where that took too long."""


@dataclass(frozen=True)
class EvalSettings:
    """How calls are sampled, and what is expected of them."""

    size: int = 2000
    """Calls to draw from a window."""
    floor: int = 30
    """Calls of each stratum, as far as ``size`` allows: fewer have no mean."""
    seed: int = 1
    apps: tuple[str, ...] = ()
    """Only these; empty: all but the judge."""
    envs: tuple[str, ...] = ()
    """Only these; empty: calls that name none, and all but ``NOT_PRODUCTION``; ``*``: all."""
    expect: Callable[[Mapping[str, Any]], Expectation] = field(default=lambda row: NOTHING_EXPECTED, compare=False)
    """From a call to what its answer must be."""

    def digest(self) -> str:
        """Return 8 hex digits of what decides the sample."""
        said = [self.size, self.floor, self.seed, sorted(self.apps), sorted(self.envs)]
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:8]


@dataclass(frozen=True)
class EvalReport:
    """What a run did."""

    ok: bool
    """False where a scorer failed at every call that it could judge, such as a judge that is away."""
    done: bool
    """False where it was stopped; run it again to go on."""
    took_s: float
    run_id: str
    calls: int
    """Of the window."""
    with_text: int
    """Of them, those whose texts are there."""
    strata: int
    sampled: int
    scores: int
    """Events published by this process."""
    skipped: int
    """Scores that had landed before."""
    not_judgeable: int
    errors: int
    """Scores that a scorer failed to make."""
    scorers: Mapping[str, str]
    """Name -> version."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Scorer -> at how many calls it failed, and its first error."""

    def to_json(self) -> str:
        """Encode for ``tailrace job run evals --json``."""
        return msgspec.json.encode(asdict(self)).decode()

    def text(self) -> str:
        """Return the report in words."""
        head = f"{'ok' if self.ok else 'FAILED'} in {self.took_s:.1f} s{'' if self.done else ', stopped early'}"
        failed = [f"\n{name} failed at {why}" for name, why in self.failed.items()]
        again = "\nrun it again: what failed is tried again, what is scored is not" if failed else ""
        return (
            f"{head}: run {self.run_id}: {self.sampled} of {self.calls} calls ({self.with_text} with texts) in "
            f"{self.strata} strata; {self.scores} scores published, {self.skipped} had landed before; "
            f"{self.not_judgeable} not judgeable, {self.errors} errors{''.join(failed)}{again}"
        )


def week_before(at: int) -> tuple[date, date]:
    """Return Monday and Sunday of the last whole ISO week (UTC) before ``at``, µs UTC."""
    today = date(1970, 1, 1) + timedelta(microseconds=at)
    monday = today - timedelta(days=today.weekday() + 7)
    return monday, monday + timedelta(days=6)


def run_name(since: date, until: date, settings: EvalSettings) -> str:
    """Return the id of the run over these days with these settings: the same when it is started again."""
    return f"{since}_{until}_{settings.digest()}"


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
    began, said = time.monotonic(), settings or EvalSettings()
    run_id = run_name(*days, said)
    limited = replace(config, memory_limit=memory_limit, threads=1)
    with (
        Lake.open(limited, now=now, lander=False, create=False) as lake,
        scoring(lake, run_id, now=now, owner=owner) as run,
    ):
        work = _Run(run, RunFacts(run_id, run.as_of), said, tuple(scorers), outlet)
        if run.resumed and not outlet.catch_up():
            log.warning("eval_scores_not_landed_yet", run_id=run_id)
        with lake.reading() as connection:
            reader = SampleReader(connection, frame_of(days, run.as_of, said), seed=said.seed)
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
        """Scorer -> calls with a score, or of which it said before that it cannot judge them."""
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
        """Return the scores; a scorer whose model is away fails alone, and is not asked again in this run."""
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
