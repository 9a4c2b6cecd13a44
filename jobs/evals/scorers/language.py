"""Whether the answer is in the language of the question, or in the one that is expected."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from jobs.evals.case import Case, Score, not_judgeable, passed
from jobs.evals.scorers.base import ByCase, output_of

_SURE = 0.85
"""Probability of a language, as py3langid has it, below which the language of a text is unknown."""
_LETTERS = 25
"""Letters below which it is unknown: a name or a number has no language."""
_MOST_CHARS = 3_000
_CODE = re.compile(r"```.{0,20000}?(?:```|\Z)|`[^`\n]{0,200}`|https?://\S{0,500}", re.DOTALL)


def language(case: Case) -> Score:
    """1 where both are the same language. A question that asks for a translation needs ``expect.language``."""
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    expected = case.expect.language or identify(case.input_text or "")
    if not expected:
        return not_judgeable("the language of the question is not clear")
    found = identify(answer)
    if not found:
        return not_judgeable("the language of the answer is not clear")
    same = found == expected
    return passed(same, label="same" if same else "other", explanation="" if same else f"{found}, not {expected}")


def identify(text: str) -> str:
    """Return the language (ISO 639-1) of the prose in ``text``; empty where it is not clear."""
    prose = _CODE.sub(" ", text[: 2 * _MOST_CHARS])[:_MOST_CHARS]
    if sum(map(str.isalpha, prose)) < _LETTERS:
        return ""
    found, probability = _identifier().classify(prose.encode("utf-8", "replace").decode())
    return str(found) if probability >= _SURE else ""


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # a tenth of a second, and 30 MB

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


LANGUAGE = ByCase("language", language, parameters={"model": "py3langid"})
