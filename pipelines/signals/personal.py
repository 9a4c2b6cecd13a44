"""Personal data or a secret in the answer that the call was not given.

By the patterns of the emitter. Where it has redacted, placeholders replace them, the same one for the same
value in the whole call: one in the answer that is in neither input nor retrieved text came from the model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from pipelines.signals.base import Scores, Side, Text
from tailrace_emitter.patterns import find

_PLACEHOLDER = re.compile(r"<(EMAIL|PHONE|CARD|IBAN|SSN|IP|KEY|JWT|TOKEN)_[1-9][0-9]{0,8}>")
_SECRETS = frozenset(("KEY", "JWT", "TOKEN", "CARD", "IBAN", "SSN"))


class Personal:
    """1 for a secret or a number of an account, 0.8 for an address or phone number."""

    name: ClassVar[str] = "personal"
    side: ClassVar[Side] = "output"
    version: ClassVar[int] = 1
    source: ClassVar[str] = "patterns of the emitter's redaction"
    threshold: ClassVar[float] = 0.5
    on: ClassVar[bool] = True

    def score(self, texts: Sequence[Text]) -> Scores:
        """Score each text by itself."""
        return np.array([_score(text) for text in texts], np.float64)


def values(text: str) -> set[tuple[str, str]]:
    """Return (kind, value) of what is personal or secret in ``text``, placeholders included."""
    return {(kind, text[start:end]) for start, end, kind in find(text)} | {
        (match[1], match[0]) for match in _PLACEHOLDER.finditer(text)
    }


def _score(text: Text) -> float:
    kinds = {kind for kind, value in values(text.text) if value not in text.given}
    return 0.0 if not kinds else 1.0 if kinds & _SECRETS else 0.8
