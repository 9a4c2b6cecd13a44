"""The protocol of a scorer, and its version: a hash of what decides a score."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Literal, Protocol

from jobs.evals.case import Case, Score, not_judgeable

Kind = Literal["code", "embedding", "llm", "human"]


class Scorer(Protocol):
    """Scores cases. 1 is the good end of every scorer.

    ``score`` keeps the order of its cases, and the score of a case does not depend on the other cases of the batch. A
    case that it cannot judge is ``not_judgeable``, never 0 or 1. No text makes it raise: texts come from users.
    """

    @property
    def name(self) -> str:
        """Of the metric, as in ``evals.name``."""

    @property
    def kind(self) -> Kind:
        """Who judges: code, an embedding model, an LLM or a person."""

    @property
    def version(self) -> str:
        """Hash of code, rubric and model. Scores of two versions are two series."""

    def score(self, cases: Sequence[Case]) -> Sequence[Score]:
        """Return one score per case, in the order of ``cases``."""


class ByCase:
    """A scorer that judges one case at a time by a function of it. Its version is that of the function's module."""

    kind: Kind = "code"

    def __init__(
        self,
        name: str,
        judge: Callable[[Case], Score],
        *,
        modules: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the metric's name, the function, and what beside its module decides a score: see ``version_of``."""
        self.name = name
        self._judge = judge
        self._modules = (judge.__module__, *modules)
        self._parameters = {"name": name, **(parameters or {})}

    @cached_property
    def version(self) -> str:
        """Hash of the code."""
        return version_of(self._modules, self._parameters)

    def score(self, cases: Sequence[Case]) -> Sequence[Score]:
        """Judge each of ``cases``."""
        return [self._judge(case) for case in cases]


class ByPerson(ByCase):
    """The same, over judgements of people."""

    kind: Kind = "human"


def output_of(case: Case) -> str | Score:
    """Return the answer; where there is none, a score with the reason."""
    if case.status != "ok":
        return not_judgeable(f"the call ended as {case.status}")
    if case.output is None:
        return not_judgeable("no answer text")
    return case.output


def version_of(modules: Sequence[str], parameters: Mapping[str, Any] | None = None) -> str:
    """Return 12 hex digits that change with the code of ``modules`` or with ``parameters``.

    Args:
        modules: names of imported modules.
        parameters: what else decides a score, such as a rubric, a threshold, a model; JSON.
    """
    return digest([_code(inspect.getsource(sys.modules[name])) for name in modules], parameters)


def digest(sources: Sequence[str], parameters: Mapping[str, Any] | None = None) -> str:
    """Return 12 hex digits of ``sources`` and ``parameters``."""
    whole = json.dumps([list(sources), dict(parameters or {})], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@cache
def _code(source: str) -> str:
    """Return ``source`` without comments, docstrings and layout, so that a changed comment begins no new series."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            kept = [
                n for n in node.body if not (isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant))
            ]  # docstrings, and those of attributes
            node.body = kept or [ast.Pass()]
    return ast.unparse(tree)
