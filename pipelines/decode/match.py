"""Whose model is this? The rules of a price book, indexed: exact names by dictionary, the rest in the book's order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_COMPACT_DATE = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
Entry = Mapping[str, Any]


class Matcher:
    """Finds the model entry of a (provider, model name) as the apps write them."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._aliases: Mapping[str, str] = content["aliases"]
        self._providers: dict[str, Entry] = {p["id"]: p for p in content["providers"]}
        self._models = {name: _Models(p["models"]) for name, p in self._providers.items()}
        self._exact: dict[str, Entry] = {}
        for models in self._models.values():
            for name, (_, entry) in models.exact.items():
                self._exact.setdefault(name, entry)

    def model(self, provider: str | None, name: str) -> Entry | None:
        """Return the entry of ``name``, or None.

        A known provider is asked, then those whose models it resells. Without one, the name says whose it is
        (``gpt-`` is OpenAI's), else an exact name in any list, in the book's order. A provider that the book does not
        know is a gateway: its name rules out guessing from others' lists, the model's own name does not.
        """
        name = name.lower()
        known = self._provider(provider) if provider else None
        prefix, _, rest = name.partition("/")
        owner = self._provider(prefix) if rest else None
        if known is None and owner is not None:
            known, name = owner, rest
        if known is not None:
            found = self._inside(known, name)
            return found or (self._inside(known, rest) if owner is not None and rest else None)
        for candidate in self._providers.values():
            if candidate["model_match"] and matches(candidate["model_match"], name):
                return self._inside(candidate, name)
        return None if provider else self._exact.get(name)

    def _provider(self, name: str) -> Entry | None:
        name = name.lower().strip()
        name = self._aliases.get(name, name)
        exact = self._providers.get(name)
        if exact is not None:
            return exact
        return next((p for p in self._providers.values() if p["match"] and matches(p["match"], name)), None)

    def _inside(self, provider: Entry, name: str) -> Entry | None:
        dashed = _COMPACT_DATE.sub(r"\1\2-\3-\4", name)
        for spelling in dict.fromkeys((name, dashed)):
            for owner in (provider["id"], *provider["fallback"]):
                if owner in self._models and (found := self._models[owner].find(spelling)):
                    return found
        return None


class _Models:
    """The models of one provider: the first entry, in order, whose clause holds."""

    def __init__(self, entries: list[Entry]) -> None:
        self.exact: dict[str, tuple[int, Entry]] = {}
        self._rest: list[tuple[int, Entry, list[Mapping[str, Any]]]] = []
        for i, entry in enumerate(entries):
            others = []
            for clause in _alternatives(entry["match"]):
                if "equals" in clause:
                    self.exact.setdefault(clause["equals"].lower(), (i, entry))
                else:
                    others.append(clause)
            if others:
                self._rest.append((i, entry, others))

    def find(self, name: str) -> Entry | None:
        limit, found = self.exact.get(name, (None, None))
        for i, entry, clauses in self._rest:
            if limit is not None and i >= limit:
                break
            if any(matches(clause, name) for clause in clauses):
                return entry
        return found


def matches(clause: Mapping[str, Any], text: str) -> bool:
    """Return whether lower-case ``text`` satisfies a clause of genai-prices' little logic."""
    ((kind, value),) = clause.items()
    if kind == "starts_with":
        return text.startswith(value.lower())
    if kind == "contains":
        return value.lower() in text
    if kind == "or":
        return any(matches(c, text) for c in value)
    if kind == "and":
        return all(matches(c, text) for c in value)
    if kind == "regex":
        return re.search(value, text) is not None
    if kind == "ends_with":
        return text.endswith(value.lower())
    return bool(text == value.lower())


def _alternatives(clause: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "or" in clause:
        for inner in clause["or"]:
            yield from _alternatives(inner)
    else:
        yield clause
