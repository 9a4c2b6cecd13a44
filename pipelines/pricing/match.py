"""Whose model is this? The rules of a price book, indexed: exact names by dictionary, the rest in the book's order."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_COMPACT_DATE = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")
_BEDROCK = re.compile(
    r"(?:[a-z]{2,6}(?:-gov)?\.)?(?:ai21|amazon|anthropic|cohere|deepseek|meta|minimax|mistral|moonshot(?:ai)?|nvidia|"
    r"openai|qwen|stability|twelvelabs|writer|zai)\.[a-z0-9]"
)
"""A model id of Amazon Bedrock: the maker's name and a dot, behind a region's mark for an inference profile."""
_ROUTES = re.compile(r":(?:nitro|floor|exacto)$")
"""OpenRouter's marks that choose among providers of one model and do not change what the model is."""
_SEGMENTS = 9
"""Leading parts of a name, such as accounts/fireworks/models/, that are taken off one by one."""
_FINE_TUNED = "ft:"
"""OpenAI's mark of a fine-tuned model."""
_FIREWORKS = "accounts/fireworks/models/"
"""What Fireworks puts before the names of its models; its API and LiteLLM also take the name alone."""
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Match:
    """A model entry, and how it was found."""

    provider: str
    """The provider whose list has it."""
    name: str
    """The spelling that matched."""
    entry: Entry
    how: str
    """One sentence for a person."""


class Matcher:
    """Finds the model entry of a (provider, model name) as the apps write them."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._aliases: Mapping[str, str] = content["aliases"]
        self._providers: dict[str, Entry] = {p["id"]: p for p in content["providers"]}
        self._models = {name: _Models(p["models"]) for name, p in self._providers.items()}
        self._exact: dict[str, list[tuple[str, Entry]]] = {}
        for owner, models in self._models.items():
            for name, (_, entry) in models.exact.items():
                self._exact.setdefault(name, []).append((owner, entry))

    def model(self, provider: str | None, name: str) -> Entry | None:
        """Return the entry of ``name``, or None; ``match`` returns how it was found as well."""
        found = self.match(provider, name)
        return found.entry if found else None

    def match(self, provider: str | None, name: str) -> Match | None:
        """Find the entry of ``name``, as given and then without what gateways and clouds put before it.

        The list of a known provider is searched, then those whose models it resells. Without one, the name decides: a
        provider's name before a slash, Bedrock's way to write ids, what a provider calls its models (``gpt-`` is
        OpenAI's), else an exact name where all lists that have it give one price: a model with open weights costs up to
        ten times as much at one provider as at another. A provider that is not in the book is a gateway: its models are
        found by their own names' pattern, and never by an exact name in any list.
        """
        name = name.lower().strip()
        known = self._provider(provider) if provider else None
        for spelling, owner in self._spellings(name, known):
            if owner is not None and (found := self._inside(owner, spelling)):
                how = "the provider is known" if owner is known else "the name contains its provider"
                return Match(found[0], spelling, found[1], f"{how}: {owner['id']}")
        if known is not None or ("/" in name and not self._one_price(name)):
            return None
        for spelling, owner in self._spellings(name, None):
            for candidate in self._providers.values() if owner is None else ():
                if candidate["model_match"] and matches(candidate["model_match"], spelling):
                    inside = self._inside(candidate, spelling)
                    if inside:
                        return Match(inside[0], spelling, inside[1], f"a name as {candidate['id']} gives them")
                    break
        if provider or name not in self._exact or not self._one_price(name):
            return None
        owner_id, entry = self._exact[name][0]
        lists = ", ".join(owner for owner, _ in self._exact[name])
        return Match(owner_id, name, entry, f"the lists that have this name give one price: {lists}")

    def _one_price(self, name: str) -> bool:
        """Return whether every list that has exactly ``name`` gives the same price; also where no list has it."""
        found = [(entry["prices"], entry["variants"]) for _, entry in self._exact.get(name, ())]
        return all(prices == found[0] for prices in found)

    def is_azure(self, provider: str | None) -> bool:
        """Return whether ``provider`` is a name of Azure."""
        known = self._provider(provider) if provider else None
        return known is not None and known["id"] == "azure"

    def may_be_openrouter(self, provider: str | None) -> bool:
        """Return whether a call of ``provider`` may have been served by OpenRouter: it names no other provider."""
        known = self._provider(provider) if provider else None
        return known is None or known["id"] == "openrouter"

    def _spellings(self, name: str, known: Entry | None) -> Iterator[tuple[str, Entry | None]]:
        """Yield (spelling, whose list to search; None where it is not known), the name as given first."""
        if name.startswith("arn:"):
            known, name = self._providers.get("aws", known), name.rpartition("/")[2]
        owner = known or (self._providers.get("openai") if name.startswith(_FINE_TUNED) else None)
        for _ in range(_SEGMENTS):
            asked = owner or (self._providers.get("aws") if _BEDROCK.match(name) else None)
            yield name, asked
            if (plain := _ROUTES.sub("", name)) != name:
                yield plain, asked
            prefix, _, name = name.partition("/")
            if not name:
                return
            owner = known or self._provider(prefix) or owner

    def _provider(self, name: str) -> Entry | None:
        name = name.lower().strip()
        name = self._aliases.get(name, name)
        exact = self._providers.get(name)
        if exact is not None:
            return exact
        return next((p for p in self._providers.values() if p["match"] and matches(p["match"], name)), None)

    def _inside(self, provider: Entry, name: str) -> tuple[str, Entry] | None:
        dashed = _COMPACT_DATE.sub(r"\1\2-\3-\4", name)
        whole = f"{_FIREWORKS}{name}" if provider["id"] == "fireworks" and "/" not in name else name
        for spelling in dict.fromkeys((name, dashed, whole)):
            for owner in (provider["id"], *provider["fallback"]):
                if owner in self._models and (found := self._models[owner].find(spelling)):
                    return owner, found
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
