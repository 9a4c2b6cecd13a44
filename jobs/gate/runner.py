"""Has all cases answered by both sides, alternating, so that a slow machine slows both."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from jobs.gate.answers import Answer, Answerer, Cache, Question
from jobs.gate.golden_file import GoldenCase
from jobs.gate.render import request
from jobs.gate.settings import GateInputError
from jobs.gate.targets import Target
from jobs.gate.template import TemplateError

GIVE_UP_AFTER = 5
"""Failures in a row, without one answer, after which a side counts as unavailable: the run ends before it costs hours.
"""
SKIP_AFTER = 20
"""Failures in a row, after answers, after which the rest of a side is not asked."""


class NoAnswerError(GateInputError):
    """One side answers nothing at all: nothing is judged, and no report is written."""

    def __init__(self, side: str, target: Target, cause: str) -> None:
        where = " ".join(target.command) if target.command else (target.base_url or "the OpenAI endpoint")
        problem = f"{where} gave no answer to {GIVE_UP_AFTER} questions, the last: {cause}"
        super().__init__(f"{side} {target.name}", problem, "check the address, the key and the model, and run it again")


@dataclass
class Side:
    """Candidate or baseline: what answers, and its answers."""

    name: str
    target: Target
    answerer: Answerer
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """Case -> its samples, in order."""
    rendered: int = 0
    """Cases that the template of the target was rendered with."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _answered: int = 0
    _failures: int = 0
    _last: str = ""

    def ask(self, question: Question, cache: Cache) -> Answer:
        """Return the answer, from the cache or from what answers.

        Raises:
            NoAnswerError: nothing was ever answered.
        """
        if kept := cache.get(self.target, question):
            return kept
        with self._lock:
            if not self._answered and self._failures >= GIVE_UP_AFTER:
                raise NoAnswerError(self.name, self.target, self._last)
            if self._failures >= SKIP_AFTER:
                return Answer(error=f"not asked after {self._failures} failures in a row, the last: {self._last}")
        answer = self.answerer(question)
        with self._lock:
            self._answered += answer.ok
            self._failures = 0 if answer.ok else self._failures + 1
            self._last = answer.error or self._last
        cache.put(self.target, question, answer)
        return answer


def run(
    sides: Sequence[Side],
    cases: Sequence[GoldenCase],
    *,
    samples: int,
    cache: Cache,
    progress: Callable[[], None] = lambda: None,
) -> None:
    """Fill ``answers`` of each side: ``samples`` a case.

    Raises:
        NoAnswerError: a side answers nothing.
    """
    work: list[tuple[Side, Question]] = []
    for case in cases:
        asked = [(side, _question(side, case)) for side in sides]
        work += [
            (side, Question(case, question.messages, sample))
            for sample in range(samples)
            for side, question in asked
            if isinstance(question, Question)
        ]
        for side, question in asked:
            if isinstance(question, Answer):
                side.answers[case.case_id] = [question] * samples
                progress()
    workers = sum(side.target.concurrency for side in sides)
    with ThreadPoolExecutor(workers, thread_name_prefix="gate") as pool:
        futures = [pool.submit(_done, side, question, cache, progress) for side, question in work]
        try:
            for (side, question), future in zip(work, futures, strict=True):
                side.answers.setdefault(question.case.case_id, []).append(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _question(side: Side, case: GoldenCase) -> Question | Answer:
    """Return what is asked; a case whose variables do not fit the template is a failure of that side."""
    try:
        found = request(case, side.target.template)
    except TemplateError as error:
        return Answer(error=str(error))
    side.rendered += found.rendered
    return Question(case, found.messages, 0)


def _done(side: Side, question: Question, cache: Cache, progress: Callable[[], None]) -> Answer:
    answer = side.ask(question, cache)
    progress()
    return answer


def failures(side: Side) -> Mapping[str, int]:
    """Return why samples have no answer, and how many."""
    found: dict[str, int] = {}
    for samples in side.answers.values():
        for answer in samples:
            if not answer.ok:
                found[answer.error] = found.get(answer.error, 0) + 1
    return dict(sorted(found.items(), key=lambda each: (-each[1], each[0])))
