"""What the answers of production calls must be: rules of the settings, by app, feature and prompt. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import jsonschema
from jsonschema.validators import validator_for

from jobs.evals.case import NOTHING_EXPECTED, Case, Expectation, Score
from jobs.evals.scorers import Kind, Scorer, digest
from schemas.errors import SettingsError

NEED_RULES = ("contains", "regex", "json_valid", "length")
"""Scorers that judge only what a rule asks for."""
_WHERE = ("app", "feature", "model", "prompt_name", "prompt_version")
_LISTS = ("contains", "excludes", "regex")
_KINDS: Mapping[str, tuple[type, ...]] = {
    **{name: (str,) for name in (*_WHERE, "language")},
    **{name: (list, tuple) for name in _LISTS},
    **{name: (int,) for name in ("min_chars", "max_chars")},
    **{"json": (bool,), "json_schema": (dict,)},
}


@dataclass(frozen=True)
class Rules:
    """Rules in their order; of those that fit a call the later ones add to the earlier ones."""

    rules: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, rules: Sequence[Mapping[str, Any]]) -> Rules:
        """Return the rules of ``evals.expect``.

        Raises:
            SettingsError: a name, a value, an expression or a JSON Schema is wrong.
        """
        for number, rule in enumerate(rules, 1):
            _check(f"evals.expect[{number}]", rule)
        return cls(tuple(dict(rule) for rule in rules))

    def of(self, row: Mapping[str, Any]) -> Expectation:
        """Return what the answer of the call in ``row`` must be."""
        expected = NOTHING_EXPECTED
        for rule in self.rules:
            if all(row[name] == rule[name] for name in _WHERE if name in rule):
                wanted: dict[str, Any] = {name: value for name, value in rule.items() if name not in _WHERE}
                wanted |= {name: tuple(wanted[name]) for name in _LISTS if name in wanted}
                expected = replace(expected, **wanted)
        return expected

    def applied_to(self, scorers: Sequence[Scorer]) -> tuple[Scorer, ...]:
        """Return ``scorers``, those that need rules with a version that changes with them."""
        key = json.dumps(self.rules, sort_keys=True, default=str)
        return tuple(Ruled(s, digest([s.version, key])) if s.name in NEED_RULES else s for s in scorers)


@dataclass(frozen=True)
class Ruled:
    """A scorer whose version holds the rules by which it judges: other rules are another series."""

    scorer: Scorer
    version: str

    @property
    def name(self) -> str:
        """Of the metric."""
        return self.scorer.name

    @property
    def kind(self) -> Kind:
        """Who judges."""
        return self.scorer.kind

    def score(self, cases: Sequence[Case]) -> Sequence[Score]:
        """Score ``cases``."""
        return self.scorer.score(cases)


def _check(where: str, rule: Mapping[str, Any]) -> None:
    known = {*_WHERE, *(field.name for field in fields(Expectation))}
    for name, value in rule.items():
        if name not in known:
            raise SettingsError(where, f"it has no field {name!r}", f"use some of {', '.join(sorted(known))}")
        right = isinstance(value, _KINDS[name]) and not (isinstance(value, bool) and bool not in _KINDS[name])
        if not right or (name in _LISTS and not all(isinstance(text, str) for text in value)):
            wanted = "a list of text" if name in _LISTS else f"of type {_KINDS[name][0].__name__}"
            raise SettingsError(where, f"{name} is not {wanted}", "correct it")
    for text in rule.get("regex", ()):
        try:
            re.compile(text)
        except (re.error, RecursionError, OverflowError) as error:
            raise SettingsError(
                where, f"the expression {text[:60]!r} cannot be compiled: {error}", "correct it"
            ) from error
    try:
        if (schema := rule.get("json_schema")) is not None:
            validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        raise SettingsError(where, f"the JSON Schema is not valid: {error.message[:200]}", "correct it") from error
