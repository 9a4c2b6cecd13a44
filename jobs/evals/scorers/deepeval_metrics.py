"""Metrics of DeepEval through the judge: faithfulness, answer relevancy, hallucination, toxicity and bias."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from jobs.evals.case import Case
from jobs.evals.judge.endpoint import Endpoint
from jobs.evals.scorers.library import Asker, LibraryScorer, installed

INSTALL = "pip install 'tailrace[deepeval]' (from a checkout: uv pip install -e '.[deepeval]')"
METRICS: Mapping[str, tuple[str, bool, bool]] = {
    "deepeval.faithfulness": ("FaithfulnessMetric", True, False),
    "deepeval.answer_relevancy": ("AnswerRelevancyMetric", False, False),
    "deepeval.hallucination": ("HallucinationMetric", True, True),
    "deepeval.toxicity": ("ToxicityMetric", False, True),
    "deepeval.bias": ("BiasMetric", False, True),
}
"""Scorer -> class in DeepEval, whether it needs retrieved texts, whether 0 is its good end."""
_SETTINGS = {"DEEPEVAL_TELEMETRY_OPT_OUT": "YES", "DEEPEVAL_DISABLE_DOTENV": "1", "ERROR_REPORTING": "NO"}
"""Without these it sends usage data to its vendor, and reads a .env file of the current folder."""


class _Text(BaseModel):
    text: str


def deepeval_scorer(name: str, endpoint: Endpoint, model: str, *, workers: int = 4) -> LibraryScorer:
    """Return the scorer ``name``, one of ``METRICS``.

    Raises:
        LibraryMissingError: DeepEval is not installed.
    """
    version = installed(name, "deepeval", INSTALL)
    for variable, value in _SETTINGS.items():
        os.environ.setdefault(variable, value)
    kind, needs_contexts, inverted = METRICS[name]
    make = _maker(kind, Asker(endpoint), model)

    def measure(case: Case) -> float:
        metric, test_case = make(case)  # a metric keeps its last result: one for each case, as cases run in threads
        metric.measure(test_case, _show_indicator=False)
        return float(metric.score)

    return LibraryScorer(
        name,
        measure,
        version=version,
        model=model,
        needs_contexts=needs_contexts,
        inverted=inverted,
        workers=workers,
    )


def _maker(kind: str, ask: Asker, model: str) -> Any:
    from deepeval import metrics
    from deepeval.models import DeepEvalBaseLLM
    from deepeval.test_case import LLMTestCase

    class Llm(DeepEvalBaseLLM):  # type: ignore[misc]
        def load_model(self) -> Any:
            return None

        def generate(self, prompt: str, schema: Any = None) -> Any:
            return ask(prompt, schema) if schema is not None else ask(prompt, _Text).text

        async def a_generate(self, prompt: str, schema: Any = None) -> Any:
            return await asyncio.to_thread(self.generate, prompt, schema)

        def get_model_name(self) -> str:
            return model

    def make(case: Case) -> tuple[Any, Any]:
        metric = getattr(metrics, kind)(model=Llm(model), async_mode=False, include_reason=False)
        texts = list(case.context_texts) or None
        found = LLMTestCase(input=case.input_text, actual_output=case.output, retrieval_context=texts, context=texts)
        return metric, found

    return make
