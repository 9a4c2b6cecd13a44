"""Whether the answer has text of its own, and does not repeat its prompt."""

from __future__ import annotations

from jobs.evals.case import Case, Score, not_judgeable
from jobs.evals.scorers.base import ByCase, output_of

_WORDS = 5
"""Words of a shingle: shorter ones are shared by texts that have nothing in common."""
_LEAST = 20
"""Words of an answer below which it is not judged: a short answer may consist of words of the question."""
_MOST_WORDS = 20_000
_COPY = 0.5


def original(case: Case) -> Score:
    """1 - share of the answer's runs of 5 words that occur in the prompt, system instructions included.

    A task that is to repeat its input, such as correcting it, scores low and is no failure: compare with the week
    before, not with 1.
    """
    answer = output_of(case)
    if isinstance(answer, Score):
        return answer
    words = _words(answer)
    if len(words) < _LEAST:
        return not_judgeable(f"fewer than {_LEAST} words")
    prompt = [*(message.text for message in case.messages), case.input_text or ""]
    if not any(prompt):
        return not_judgeable("no prompt text")
    known = {shingle for text in prompt for shingle in _shingles(_words(text))}
    mine = _shingles(words)
    copied = sum(shingle in known for shingle in mine) / len(mine)
    return Score(1 - copied, "copy" if copied >= _COPY else "original")


def _words(text: str) -> list[str]:
    return text.casefold().split()[:_MOST_WORDS]


def _shingles(words: list[str]) -> list[tuple[str, ...]]:
    return list(zip(*(words[i:] for i in range(_WORDS)), strict=False))


ORIGINAL = ByCase("original", original)
