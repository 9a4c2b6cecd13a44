"""An input that reads like an attempt to talk the model out of its rules: a jailbreak, or an injection typed by a user.

Phrases that such prompts share, each with a weight; and the odd tails that optimised suffixes have (GCG: words and
marks in no order). A polite story that leads to the same end (PAIR) shares none of them and is missed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pipelines.signals.base import Scores, Side, Text

_CHARS = 4_000
_SURE_WORDS = (
    "ignore all previous|ignore the previous|ignore previous|ignore all the instructions|disregard all|disregard any|"
    "disregard previous|forget all previous|do anything now|stay in character|never refuse|cannot refuse|can't refuse|"
    "jailbreak|jailbroken|unfiltered|uncensored|amoral|developer mode|dan mode|without restrictions|no restrictions|"
    "any restrictions|no limitations|ethical guidelines|no ethical|or ethical|ethics or|moral guidelines|"
    "unethical|immoral|openai polic|openai's|content polic|content guidelines|usage polic|safety guidelines|"
    "typical confines|abide by|break free|broken free|respond as dan|act as dan|always fulfills the user|"
    "without any warnings|without warnings|no warnings|no disclaimers|bypass"
)
_HINT_WORDS = (
    "from now on|you must always|you will always|you are going to|pretend|act as|acting as|role play|roleplay|"
    "hypothetical|fictional|character named|in this story|regardless of|no matter|illegal|harmful|offensive|"
    "as an ai|language model|i'm sorry|i cannot|i can't|apologize|chatgpt|openai|the rules|guidelines|censorship|"
    "your instructions|system prompt|previous instructions|never say|do not mention|swear|must comply|comply with|"
    "questionable|legality|moral|two responses|two ways|opinions"
)
_SURE, _HINTS = _SURE_WORDS.split("|"), _HINT_WORDS.split("|")
_HINT = 0.34
"""Three hints are as much as one phrase that is sure."""
_ODD = re.compile(r"[A-Za-z][\[\]{}()<>\\|@^*=;:!?$\"#&_]+[A-Za-z]|[\[\]{}()<>\\|@^*=;:!?$#&.,\-]{2,}|[{}<>\\|^\[\]$=]")
_TAIL_WORDS, _TAIL_ODD = 20, 0.2


class Attack:
    """One minus a half to the power of the weights that are found."""

    name: ClassVar[str] = "attack"
    side: ClassVar[Side] = "input"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "phrases of in-the-wild jailbreaks (Shen et al., arXiv 2308.03825); GCG tails (2307.15043)"
    threshold: ClassVar[float] = 0.5
    on: ClassVar[bool] = True

    def score(self, texts: Sequence[Text]) -> Scores:
        """Score each text by itself."""
        return np.array([1.0 - 0.5 ** _weight(text.text[:_CHARS]) for text in texts], np.float64)


def _weight(text: str) -> float:
    lower = " ".join(text.lower().replace("\u2019", "'").split())
    sure = sum(phrase in lower for phrase in _SURE)
    hints = sum(phrase in lower for phrase in _HINTS)
    return sure + _HINT * hints + _tail(text)


def _tail(text: str) -> float:
    """1 where the end of a text of one line is of odd tokens; source code has more lines than one."""
    if "\n" in text.strip():
        return 0.0
    tail = text.split()[-_TAIL_WORDS:]
    odd = sum(bool(_ODD.search(token)) for token in tail)
    return 1.0 if len(tail) >= _TAIL_WORDS // 2 and odd >= _TAIL_ODD * len(tail) else 0.0
