"""Removes mentions of a person from the texts of alerts and log records. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

import msgspec

HIDDEN = "forgotten"
"""Replaces an id, a call's id, or an excerpt."""
_SHORT = 4
"""An id with fewer characters is a word or a number elsewhere, too: it is replaced only where it is all of a value, or
follows the word user or tenant."""


class Mask:
    """Replaces mentions in texts and in JSON."""

    def __init__(self, ids: Sequence[str], calls: Collection[str] = (), excerpts: Collection[str] = ()) -> None:
        """Make one.

        Args:
            ids: of the person, in all forms.
            calls: ids of their calls.
            excerpts: of their texts, as causes of alerts quote them.
        """
        self._ids, self._calls, self._excerpts = tuple(ids), frozenset(calls), tuple(sorted(excerpts, key=len)[::-1])

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        words = [re.escape(each) for each in (*self._calls, *(i for i in self._ids if len(i) >= _SHORT))]
        behind = [re.escape(each) for each in self._ids if len(each) < _SHORT]
        parts = [rf"(?<!\w)(?:{'|'.join(words)})(?!\w)"] if words else []
        parts += (
            [rf"(?<=user )(?:{'|'.join(behind)})(?!\w)", rf"(?<=tenant )(?:{'|'.join(behind)})(?!\w)"] if behind else []
        )
        return re.compile("|".join(parts) or r"(?!)")

    def text(self, text: str) -> str:
        """Return ``text`` with `HIDDEN` in place of every mention."""
        if text in self._ids or text in self._excerpts:
            return HIDDEN
        for excerpt in self._excerpts:
            text = text.replace(f"“{excerpt}”", f"“{HIDDEN}”")
        return self._pattern.sub(HIDDEN, text)

    def json(self, text: str) -> str:
        """Return JSON with every string in it masked, as it is where none is; what is no JSON is masked as a text."""
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            return self.text(text)
        masked = self._value(value)
        return text if masked == value else msgspec.json.encode(masked).decode()

    def calls(self, ids: Sequence[str]) -> list[str]:
        """Return ``ids`` without their calls."""
        return [each for each in ids if each not in self._calls]

    @property
    def needles(self) -> list[str]:
        """Texts of which a row must contain one to be changed, also in their JSON form."""
        found = (*self._ids, *self._calls, *self._excerpts)
        return sorted({*found, *(json.dumps(each, ensure_ascii=False)[1:-1] for each in found)})

    def _value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._value(item) for item in value if not (isinstance(item, str) and item in self._calls)]
        if isinstance(value, dict):
            return {self.text(key): self._value(item) for key, item in value.items()}
        return value
