"""gate.yaml: limits by scorer, feature and task, what blocks, what is waived. Pure: text in, ``GateSettings`` out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

import msgspec
import yaml

from jobs.gate.verdict import Limit
from schemas.errors import FatalError

_LIMIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(%rel)?\s*")
_NAME = "gate.yaml"


class GateInputError(FatalError):
    """A file or an argument of the gate cannot be used: nothing is judged."""

    def __init__(self, where: str, problem: str, remedy: str) -> None:
        self.where = where
        super().__init__(f"{where}: {problem}; {remedy}")


class Mode(StrEnum):
    """What a check may do."""

    MUST_PASS = "must_pass"
    """Only a pass lets the candidate through."""
    MUST_NOT_REGRESS = "must_not_regress"
    """A regress blocks; undecided is shown and does not."""
    INFORM = "inform"
    """It is shown and blocks nothing."""


@dataclass(frozen=True)
class Rule:
    """One line of thresholds: the most specific that fits a scorer, a feature and a task holds."""

    scorer: str = "*"
    feature: str = "*"
    task: str = "*"
    """Name of the prompt template of a case."""
    limit: Limit = field(default_factory=Limit)
    mode: Mode = Mode.MUST_PASS

    @property
    def specificity(self) -> tuple[bool, bool, bool]:
        """Order of rules that fit: one that names the scorer goes before one that names the feature, then the task."""
        return self.scorer != "*", self.feature != "*", self.task != "*"


@dataclass(frozen=True)
class Waiver:
    """A person lets an alert or a check pass."""

    alert: str
    reason: str
    by: str
    date: date


@dataclass(frozen=True)
class GateSettings:
    """The settings of a gate."""

    samples: int = 5
    """Answers a case and side. bench/gate.py: with five the same candidate gets the same verdict in 95 %."""
    seed: int = 1
    """Draws the resamples of quantiles."""
    quality: tuple[Rule, ...] = (Rule(),)
    safety: tuple[Rule, ...] = (Rule(),)
    cost: Rule = field(default_factory=lambda: Rule("cost", limit=Limit(0.2, True), mode=Mode.MUST_NOT_REGRESS))
    latency_p95: Rule = field(
        default_factory=lambda: Rule("latency_p95", limit=Limit(0.25, True), mode=Mode.MUST_NOT_REGRESS)
    )
    ttft_p95: Rule = field(default_factory=lambda: Rule("ttft_p95", limit=Limit(0.25, True), mode=Mode.INFORM))
    judge_min_kappa: float = 0.4
    judge_min_labels: int = 50
    stale_days: int = 21
    """Days after which unreviewed candidates make a golden set stale."""
    waivers: tuple[Waiver, ...] = ()

    def rule(self, kind: str, *, scorer: str, feature: str, task: str) -> Rule:
        """Return the most specific rule of ``kind`` (quality, safety) that fits; the last of equals."""
        rules: Sequence[Rule] = self.safety if kind == "safety" else self.quality
        wanted = (("scorer", scorer), ("feature", feature), ("task", task))
        fitting = [r for r in (Rule(), *rules) if all(getattr(r, name) in ("*", value) for name, value in wanted)]
        return max(enumerate(fitting), key=lambda each: (each[1].specificity, each[0]))[1]

    def waiver(self, alert: str, today: date) -> Waiver | None:
        """Return the waiver of an alert, if there is one that is not dated after today."""
        return next((w for w in self.waivers if w.alert == alert and w.date <= today), None)


def parse(text: str, where: str = _NAME) -> GateSettings:
    """Return the settings in ``text``.

    Args:
        text: YAML; empty for the defaults.
        where: name of the file, for errors.

    Raises:
        GateInputError: it is no YAML, or names something unknown, or a value is out of range.
    """
    try:
        read = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise GateInputError(where, f"no YAML: {_line(error)}", "see docs/how-to/gate.md for an example") from error
    try:
        raw = msgspec.convert(read or {}, _File)
    except msgspec.ValidationError as error:
        raise GateInputError(where, str(error), "docs/how-to/gate.md lists the keys") from error
    problem = _problem(raw)
    if problem:
        raise GateInputError(where, problem, "docs/how-to/gate.md lists the keys and their ranges")
    given: dict[str, Any] = {n: getattr(raw, n) for n in _PLAIN if getattr(raw, n) is not None}
    for name in ("quality", "safety"):
        if rows := getattr(raw, name):
            given[name] = tuple(_rule(row, Rule(), f"{where}: {name}") for row in rows)
    defaults = GateSettings()
    for name in _BUDGETS:
        if row := getattr(raw, name):
            given[name] = _rule(row, getattr(defaults, name), f"{where}: {name}", relative=True)
    given["waivers"] = tuple(_waiver(row, where) for row in raw.waivers)
    return GateSettings(**given)


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    scorer: str | None = None
    feature: str | None = None
    task: str | None = None
    limit: str | float | None = None
    mode: Mode | None = None


class _Waived(msgspec.Struct, forbid_unknown_fields=True):
    alert: str
    reason: str
    by: str
    date: date


class _File(msgspec.Struct, forbid_unknown_fields=True):
    samples: int | None = None
    seed: int | None = None
    judge_min_kappa: float | None = None
    judge_min_labels: int | None = None
    stale_days: int | None = None
    quality: list[_Row] = []
    safety: list[_Row] = []
    cost: _Row | None = None
    latency_p95: _Row | None = None
    ttft_p95: _Row | None = None
    waivers: list[_Waived] = []


_PLAIN = ("samples", "seed", "judge_min_kappa", "judge_min_labels", "stale_days")
_BUDGETS = ("cost", "latency_p95", "ttft_p95")
_RANGES: Mapping[str, tuple[float, float]] = {
    "samples": (1, 100),
    "seed": (0, 2**31),
    "judge_min_kappa": (-1, 1),
    "judge_min_labels": (0, 1_000_000),
    "stale_days": (1, 3_650),
}


def _problem(raw: _File) -> str:
    for name, (low, high) in _RANGES.items():
        value = getattr(raw, name)
        if value is not None and not low <= value <= high:
            return f"{name} is {value}, outside {low} to {high}"
    return ""


def _rule(row: _Row, default: Rule, where: str, *, relative: bool = False) -> Rule:
    limit = default.limit if row.limit is None else _limit(row.limit, where)
    if relative and not limit.relative:
        raise GateInputError(where, f"limit {row.limit!r} is no share of the baseline", "write it as 20%rel")
    if relative and (row.scorer or row.feature or row.task):
        raise GateInputError(where, "it holds for all cases", "leave scorer, feature and task out")
    return Rule(row.scorer or default.scorer, row.feature or "*", row.task or "*", limit, row.mode or default.mode)


def _limit(text: str | float, where: str) -> Limit:
    found = _LIMIT.fullmatch(str(text))
    if not found or not 0 < float(found[1]) <= (10_000 if found[2] else 100):
        problem = f"limit {text!r} is neither percentage points nor a share of the baseline"
        raise GateInputError(where, problem, "write 5 for five points of 100, or 5%rel for 5 % of the baseline")
    return Limit(float(found[1]) / 100, bool(found[2]))


def _waiver(row: _Waived, where: str) -> Waiver:
    for name in ("alert", "reason", "by"):
        if not getattr(row, name).strip():
            raise GateInputError(f"{where}: waivers", f"{name} is empty", "say which alert, why, and who decided it")
    return Waiver(row.alert, row.reason, row.by, row.date)


def _line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or type(error).__name__
    return f"{problem} in line {mark.line + 1}" if mark else str(problem)
