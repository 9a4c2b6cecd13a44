"""The model refused: the opening of the answer is matched against the ways in which assistants refuse.

In five languages. A refusal that explains itself for a while first, or that changes the subject, is taken for an
answer. Beside it detect watches what the event itself reports of refusals (``surge_refused``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pipelines.signals.base import Scores, Side, Text

_OPENING = 400
"""Characters of the answer in which a refusal shows itself."""
_NOT = (
    r"(?:can(?:no|')t|can not|could not|couldn't|won't|will not|"
    r"(?: am|'m) (?:not able|unable) to)"
)
_DO = (
    r"(?:help|assist|fulfil+|comply|provide|create|write|generate|support|do that|do this|answer|offer|give|engage|"
    r"participate|promote|continue|discuss|share|complete|produce|encourage|condone|accommodate|process|carry out|"
    r"respond|proceed|satisfy|advise|recommend|suggest|make|tell|explain|teach|instruct|design|develop|"
    r"in good conscience)"
)
_REFUSALS = tuple(
    re.compile(text, re.IGNORECASE)
    for text in (
        rf"\bI ?{_NOT} (?:\w+ ){{0,3}}?{_DO}",
        r"\bI must (?:\w+ )?(?:decline|refuse)\b",
        r"\bI(?:'m| am) (?:sorry|afraid)[^.\n]{0,20}(?:\bno\b|that'?s not something I can)",
        r"\bas an? (?:responsible |ethical )?(?:AI|language model|assistant)[^.\n]{0,80}"
        r"(?:cannot|can't|not able|unable|must inform)",
        r"\b(?:it is|it's|would be) not (?:appropriate|ethical|within my)[^.\n]{0,60}(?:to|for me)\b",
        r"\bmy (?:programming|guidelines|purpose)[^.\n]{0,80}(?:cannot|can't|not (?:allow|permit))",
        r"\bsorry, (?:but )?(?:this|that|your) request\b",
        r"\bIch (?:kann|darf|werde)[^.\n]{0,60}\bnicht\b[^.\n]{0,40}"
        r"\b(?:helfen|beantworten|unterstützen|erstellen|bereitstellen)",
        r"\bJe (?:ne peux pas|ne suis pas en mesure)[^.\n]{0,60}\b(?:aider|fournir|créer|répondre|écrire)",
        r"\bNo puedo\b[^.\n]{0,60}\b(?:ayudar|proporcionar|cumplir|crear|responder)",
        r"\bNão posso\b[^.\n]{0,60}\b(?:ajudar|fornecer|criar|responder)",
    )
)
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'"})


def refuses(text: str) -> bool:
    """Return whether the opening of ``text`` refuses."""
    opening = text[:_OPENING].translate(_APOSTROPHES)
    return any(pattern.search(opening) for pattern in _REFUSALS)


class Refusal:
    """1 where the opening refuses."""

    name: ClassVar[str] = "refusal"
    side: ClassVar[Side] = "output"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "phrases of refusals, as of the scorer `answered`"
    threshold: ClassVar[float] = 0.5
    on: ClassVar[bool] = True

    def score(self, texts: Sequence[Text]) -> Scores:
        """Score each text by itself."""
        return np.array([float(refuses(text.text)) for text in texts], np.float64)
