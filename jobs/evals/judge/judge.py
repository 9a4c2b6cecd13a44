"""A judge: several samples of one verdict, and pairs asked in both orders. Pure but for the endpoint."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.evals.judge import prompt
from jobs.evals.judge.endpoint import Endpoint, JudgeError, Question
from jobs.evals.judge.prompt import Material, Verdict
from jobs.evals.judge.rubric import Rubric

Better = Literal["first", "second", "equal"]


@dataclass(frozen=True)
class Judgement:
    """The verdict of several samples on one answer."""

    score: float | None
    """Median of the parsable samples on the rubric's scale; None where fewer than half of the samples are parsable."""
    reason: str
    """Of the sample that is nearest to the median."""
    samples: tuple[int, ...]
    """Scores of the parsable samples."""
    unparsable: int
    error: str = ""
    """Kind and detail where the judge gave no reply."""

    @property
    def spread(self) -> int:
        """Highest less lowest score of the samples."""
        return max(self.samples) - min(self.samples) if self.samples else 0


@dataclass(frozen=True)
class PairJudgement:
    """Which of two answers is better, asked in both orders."""

    better: Better | None
    """None where a reply is missing or unparsable. Verdicts that change with the order are ``equal``."""
    consistent: bool
    """Whether both orders give the same verdict: the share of pairs where they differ is the judge's position bias."""
    reason: str = ""
    error: str = ""


def judge_answer(endpoint: Endpoint, rubric: Rubric, material: Material, *, samples: int = 1) -> Judgement:
    """Ask for ``samples`` verdicts on ``material.answer``. One sample that fails ends the answer: it stays unscored."""
    messages, schema = prompt.score_messages(rubric, material), prompt.score_schema(rubric)
    verdicts: list[Verdict] = []
    unparsable = 0
    for sample in range(samples):
        try:
            reply = endpoint.ask(Question(messages, schema, sample))
        except JudgeError as error:
            return Judgement(None, "", tuple(v.score for v in verdicts), unparsable, str(error))
        verdict = prompt.read_score(reply.text, rubric)
        if verdict is None:
            unparsable += 1
        else:
            verdicts.append(verdict)
    return _combined(verdicts, unparsable)


def _combined(verdicts: Sequence[Verdict], unparsable: int) -> Judgement:
    scores = tuple(v.score for v in verdicts)
    if not scores or unparsable > len(scores):
        return Judgement(None, "", scores, unparsable)
    median = float(statistics.median(scores))
    nearest = min(verdicts, key=lambda v: abs(v.score - median))
    return Judgement(median, nearest.reason, scores, unparsable)


def judge_pair(endpoint: Endpoint, rubric: Rubric, material: Material, other: str) -> PairJudgement:
    """Ask whether ``material.answer`` (first) or ``other`` (second) is better, then the same with places swapped.

    Judges prefer a place (Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section 3.3):
    a preference counts only where both orders agree.
    """
    swapped = Material(material.question, other, material.reference, material.contexts)
    schema = prompt.pair_schema()
    try:
        straight = endpoint.ask(Question(prompt.pair_messages(rubric, material, other), schema))
        turned = endpoint.ask(Question(prompt.pair_messages(rubric, swapped, material.answer), schema))
    except JudgeError as error:
        return PairJudgement(None, consistent=False, error=str(error))
    one, two = prompt.read_pair(straight.text), prompt.read_pair(turned.text)
    if one is None or two is None:
        return PairJudgement(None, consistent=False)
    back: dict[str, Better] = {"first": "second", "second": "first", "equal": "equal"}
    same = one[0] == back[two[0]]
    return PairJudgement(back[two[0]] if same else "equal", consistent=same, reason=one[1])
