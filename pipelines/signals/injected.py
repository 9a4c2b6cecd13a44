"""A retrieved text that instructs the reader's assistant: an indirect prompt injection.

Documents inform; a sentence about "your response", or a command to put code into an answer, is for the model. An
injected task without such words ("What is the capital of Brazil?") looks like any other sentence and is missed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pipelines.signals.base import Scores, Side, Text

_ANSWER = r"(?:response|answer|reply|output|message|code|implementation|solution|codebase|algorithm)"
_SURE = re.compile(
    rf"\b(?:in|into|of|to|from|with|within) your (?:\w+ )?{_ANSWER}s?\b|"
    rf"\byour (?:\w+ )?(?:response|answer|reply|output)\b|"
    rf"\b(?:respond|reply) (?:in|with|using|only|backward)|"
    rf"\b(?:ignore|disregard|forget) (?:\w+ ){{0,3}}(?:instructions?|prompts?|rules)|"
    rf"\bfollowing code (?:snippet|excerpt|block|section|segment)|\bbelow code (?:snippet|excerpt|block|section)|"
    rf"\b(?:system prompt|as an ai|language model)\b",
    re.IGNORECASE,
)
_COMMAND = re.compile(
    r"(?:^|[.!?]\s+|\n)(?:please )?(?:write|summari[sz]e|describe|explain|analy[sz]e|translate|append|modify|encode|"
    r"encrypt|reverse|recommend|determine|compose|draft|convert|rewrite|embed|integrate|insert|generate|print|reveal)\b",
    re.IGNORECASE,
)


class Injected:
    """1 where a text is about the answer; a half less where there is only a command."""

    name: ClassVar[str] = "injected"
    side: ClassVar[Side] = "document"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "instructions of BIPIA (Yi et al., arXiv 2312.14197)"
    threshold: ClassVar[float] = 0.5
    on: ClassVar[bool] = True

    def score(self, texts: Sequence[Text]) -> Scores:
        """Score each text by itself."""
        return np.array([_score(text.text) for text in texts], np.float64)


def _score(text: str) -> float:
    sure = len(_SURE.findall(text))
    return 1.0 - 0.4**sure if sure else 0.3 * bool(_COMMAND.search(text))
