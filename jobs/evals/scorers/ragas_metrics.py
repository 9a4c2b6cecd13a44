"""Metrics of RAGAS through the judge: ``ragas.faithfulness`` and ``ragas.context_precision``.

Es, S., James, J., Espinosa-Anke, L., Schockaert, S. (2024), "RAGAs: Automated Evaluation of Retrieval Augmented
Generation", EACL. RAGAS 0.4 imports a module that langchain-community 0.4 no longer has, so an older version of that
package is needed too.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from jobs.evals.case import Case
from jobs.evals.judge.endpoint import Endpoint
from jobs.evals.scorers.library import Asker, LibraryScorer, installed

INSTALL = "pip install 'tailrace[ragas]' (from a checkout: uv pip install -e '.[ragas]')"
METRICS = ("ragas.faithfulness", "ragas.context_precision")


def ragas_scorer(name: str, endpoint: Endpoint, model: str, *, workers: int = 4) -> LibraryScorer:
    """Return the scorer ``name``, one of ``METRICS``.

    Raises:
        LibraryMissingError: RAGAS is not installed.
    """
    version = installed(name, "ragas", INSTALL)
    os.environ.setdefault("RAGAS_DO_NOT_TRACK", "true")  # without this it sends usage data to its vendor
    metric = _metric(name, Asker(endpoint))

    def measure(case: Case) -> float:
        texts: dict[str, Any] = {"user_input": case.input_text, "response": case.output}
        return float(asyncio.run(metric.ascore(**texts, retrieved_contexts=list(case.context_texts))).value)

    return LibraryScorer(name, measure, version=version, model=model, needs_contexts=True, workers=workers)


def _metric(name: str, ask: Asker) -> Any:
    from ragas.llms.base import InstructorBaseRagasLLM
    from ragas.metrics.collections import ContextPrecisionWithoutReference, Faithfulness

    class Llm(InstructorBaseRagasLLM):  # type: ignore[misc]
        def generate(self, prompt: str, response_model: Any) -> Any:
            return ask(prompt, response_model)

        async def agenerate(self, prompt: str, response_model: Any) -> Any:
            return await asyncio.to_thread(ask, prompt, response_model)

    return (Faithfulness if name == METRICS[0] else ContextPrecisionWithoutReference)(llm=Llm())
