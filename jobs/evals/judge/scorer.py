"""A rubric and an endpoint as a scorer."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from jobs.evals.case import Case, Score, not_judgeable
from jobs.evals.judge import prompt
from jobs.evals.judge.endpoint import Endpoint
from jobs.evals.judge.judge import Judgement, judge_answer
from jobs.evals.judge.prompt import Material
from jobs.evals.judge.rubric import Rubric
from jobs.evals.scorers.base import Kind, digest, output_of


@dataclass
class JudgeCounts:
    """What happened to the questions of a run."""

    judged: int = 0
    unparsable: int = 0
    """Cases whose replies could not be read; they have no score."""
    failed: int = 0
    """Cases for which the judge gave no reply."""
    unstable: int = 0
    """Cases whose samples lie two or more points apart."""


@dataclass
class JudgeScorer:
    """Scores answers by a language model; a case that lacks what the rubric needs is not judged."""

    rubric: Rubric
    endpoint: Endpoint
    model: str
    samples: int = 1
    """Verdicts a case; the median counts."""
    workers: int = 4
    kind: Kind = "llm"
    counts: JudgeCounts = field(default_factory=JudgeCounts)

    @property
    def name(self) -> str:
        """``judge.`` and the name of the rubric."""
        return f"judge.{self.rubric.name}"

    @property
    def version(self) -> str:
        """Changes with the rubric, the model, the number of samples and the wording of the question."""
        return digest([self.rubric.digest, self.model, str(self.samples), prompt.VERSION])

    @property
    def takes_case_rubric(self) -> bool:
        """Whether a case's own rubric is asked as well."""
        return self.rubric.takes_case_rubric

    def score(self, cases: Sequence[Case]) -> Sequence[Score]:
        """Return a score a case, in order."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="judge") as pool:
            return [self._scored(found) for found in pool.map(self._judged, cases)]

    def _judged(self, case: Case) -> Judgement | str:
        if missing := self._missing(case):
            return missing
        own = case.rubric if self.takes_case_rubric else None
        material = Material(case.input_text or "", case.output or "", case.reference, case.context_texts, own)
        return judge_answer(self.endpoint, self.rubric, material, samples=self.samples)

    def _missing(self, case: Case) -> str:
        if not isinstance(output_of(case), str) or not case.output:
            return "no answer"
        if not case.input_text:
            return "no question"
        if "reference" in self.rubric.needs and case.reference is None:
            return "no reference"
        return "no retrieved text" if "contexts" in self.rubric.needs and not case.context_texts else ""

    def _scored(self, judgement: Judgement | str) -> Score:
        if isinstance(judgement, str):
            return not_judgeable(judgement)
        if judgement.error:
            self.counts.failed += 1
            return Score(error=judgement.error)
        if judgement.score is None:
            self.counts.unparsable += 1
            return Score(error=f"unparsable: {judgement.unparsable} replies of the judge could not be read")
        self.counts.judged += 1
        self.counts.unstable += judgement.spread > 1
        label = "pass" if self.rubric.passes(judgement.score) else "fail"
        return Score(self.rubric.normalised(judgement.score), label, judgement.reason)
