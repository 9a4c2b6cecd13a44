"""Metrics of other libraries as scorers: RAGAS and DeepEval, asked through the configured judge.

The libraries are not installed with Tailrace: each brings dozens of packages. Their metrics run where they are named
(``--scorer ragas.faithfulness`` or ``evals.scorers``) and the library is there. Their questions go through the judge's
cache, spend limit and pace, and are events of app ``tailrace-judge`` like its own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from jobs.evals.case import Case, Score, not_judgeable
from jobs.evals.judge.endpoint import Endpoint, JudgeError, Question
from jobs.evals.scorers.base import Kind, digest, output_of
from schemas.errors import SettingsError

Reply = TypeVar("Reply", bound=BaseModel)
_LABEL_FROM = 0.5


class LibraryMissingError(SettingsError):
    """A scorer is named whose library is not installed."""

    def __init__(self, scorer: str, package: str, install: str) -> None:
        super().__init__("scorer", f"{scorer} needs the package {package}, which is not installed", f"run `{install}`")


class UnreadableReplyError(Exception):
    """The judge's reply is not what the library asked for."""


class Asker:
    """Sends a prompt of a library to the judge and parses the reply as the model that the library expects."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def __call__(self, prompt: str, wanted: type[Reply]) -> Reply:
        """Return the reply.

        Raises:
            JudgeError: the judge gave none.
            UnreadableReplyError: it is not of the form ``wanted``.
        """
        reply = self._endpoint.ask(Question([{"role": "user", "content": prompt}], strict(wanted.model_json_schema())))
        text = (reply.text or "").strip()
        if text.startswith("```") and text.endswith("```") and "\n" in text:
            text = text[text.index("\n") : -3]
        try:
            return wanted.model_validate(json.loads(text))
        except (ValueError, RecursionError, ValidationError) as error:
            raise UnreadableReplyError(f"unparsable: the judge's reply is no {wanted.__name__}") from error


class LibraryScorer:
    """Scores cases by one metric of a library."""

    kind: Kind = "llm"

    def __init__(
        self,
        name: str,
        measure: Callable[[Case], float],
        *,
        version: str,
        model: str,
        needs_contexts: bool = False,
        inverted: bool = False,
        workers: int = 4,
    ) -> None:
        """Take the metric.

        Args:
            name: library, dot, metric.
            measure: from a case with question and answer to the library's number, 0..1 or NaN.
            version: of the library.
            model: that is asked.
            needs_contexts: whether a case without retrieved texts cannot be judged.
            inverted: whether 0 is the library's good end.
            workers: cases at a time.
        """
        self.name, self.model = name, model
        self._measure, self._needs_contexts, self._inverted, self._workers = measure, needs_contexts, inverted, workers
        self.version = digest([name, version, model])

    def score(self, cases: Sequence[Case]) -> Sequence[Score]:
        """Return a score a case, in order."""
        with ThreadPoolExecutor(self._workers, thread_name_prefix=self.name) as pool:
            return list(pool.map(self._one, cases))

    def _one(self, case: Case) -> Score:
        answer = output_of(case)
        if isinstance(answer, Score):
            return answer
        if not answer.strip() or not (case.input_text or "").strip():
            return not_judgeable("no question or no answer text")
        if self._needs_contexts and not case.context_texts:
            return not_judgeable("no retrieved text")
        try:
            value = float(self._measure(case))
        except (JudgeError, UnreadableReplyError) as error:
            return Score(error=str(error))
        except Exception as error:  # noqa: BLE001 - code of another library, which may raise anything
            return Score(error=f"{self.name.partition('.')[0]}: {type(error).__name__}: {error}"[:200])
        if not math.isfinite(value):
            return not_judgeable("the library found nothing to judge")
        value = min(1.0, max(0.0, 1 - value if self._inverted else value))
        return Score(value, "pass" if value >= _LABEL_FROM else "fail")


def installed(scorer: str, package: str, install: str) -> str:
    """Return the version of ``package``.

    Raises:
        LibraryMissingError: it is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise LibraryMissingError(scorer, package, install)
    return importlib.metadata.version(package)


def strict(schema: Any) -> Any:
    """Return a JSON Schema in the strict form of structured outputs: all properties are required, and no others."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items() if key != "default"}
    if isinstance(made.get("properties"), dict):
        made |= {"required": list(made["properties"]), "additionalProperties": False}
    return made
