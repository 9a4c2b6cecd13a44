"""Which models a prompt version may run on: an optional file, and the calls of the last day that do not keep to it.

.. code-block:: yaml

    - {prompt: answer, version: "18", models: [gpt-4o, gpt-4o-mini]}
    - {prompt: answer, version: "17", models: [gpt-4o]}
    - {prompt: rewrite, models: [gpt-4o-mini]}          # every version; `app` narrows a line to one app

A prompt that the file does not name may run on every model. A model is the one asked for or the one that answered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from pipelines.alerts.evidence import literal
from schemas.errors import SettingsError
from schemas.variants import NOT_USER_FACING
from warehouse.query.readonly import ReadOnlyLake

SETTING = "novelty.allowed_pairs"
_MOST_ROWS = 50
_KEYS = {"prompt", "version", "models", "app"}
_USED = """
SELECT app, prompt_name, prompt_version, model, response_model, min(ts) AS first, max(ts) AS last, count(*) AS calls
FROM raw_calls
WHERE day >= $1 AND ts >= $2 AND ts < $3 AND _landed_at <= $3 AND NOT coalesce(_dup, false) AND prompt_name IS NOT NULL
    AND NOT coalesce(regexp_matches(variant, $4, 'i'), false)
GROUP BY ALL ORDER BY app, prompt_name, prompt_version, model, response_model
"""


@dataclass(frozen=True)
class AllowedPair:
    """One line of the file."""

    prompt: str
    models: frozenset[str]
    version: str | None = None
    """None: every version."""
    app: str | None = None
    """None: every app."""


@dataclass(frozen=True)
class AllowedPairs:
    """The whole file."""

    lines: tuple[AllowedPair, ...] = ()

    def models(self, app: str, prompt: str, version: str | None) -> frozenset[str] | None:
        """Return the models that may answer; None where the file has no line for it.

        A line that names the version counts more than one that does not. A version that no line holds, of a prompt
        whose lines all name versions, may run on none of them.
        """
        mine = [line for line in self.lines if line.prompt == prompt and line.app in (None, app)]
        exact = [line for line in mine if line.version is not None and line.version == version]
        general = [line for line in mine if line.version is None]
        if not mine:
            return None
        return frozenset(model for line in exact or general for model in line.models)


@dataclass(frozen=True)
class Skew:
    """A prompt whose versions ran on models that its lines do not name."""

    app: str
    prompt: str
    first: datetime
    """Within the last day."""
    rows: tuple[tuple[str | None, str, str | None, int], ...]
    """Version, model as asked for, model that answered, calls; most calls first."""

    @property
    def calls(self) -> int:
        """Of all its rows."""
        return sum(calls for *_, calls in self.rows)

    @property
    def pairs(self) -> dict[tuple[str | None, str], int]:
        """Calls by version and model as asked for."""
        found: defaultdict[tuple[str | None, str], int] = defaultdict(int)
        for version, model, _, calls in self.rows:
            found[version, model] += calls
        return dict(found)

    @property
    def series(self) -> dict[str, str]:
        """Its dimensions; the identity of its alert."""
        return {"app": self.app, "prompt_name": self.prompt}

    def sql(self, known_at: datetime) -> str:
        """Return SQL for its calls, as they were known at ``known_at``."""
        rows = [f"({', '.join(literal(part or '') for part in parts)})" for *parts, _ in self.rows]
        since, moment = known_at - timedelta(days=1), f"{known_at:%Y-%m-%d %H:%M:%S.%f}+00"
        return (
            f"SELECT count(*)::DOUBLE AS observed FROM calls_as_known_at(TIMESTAMPTZ '{moment}') WHERE user_facing "
            f"AND app = {literal(self.app)} AND prompt_name = {literal(self.prompt)} "
            f"AND (coalesce(prompt_version, ''), model, coalesce(response_model, '')) IN ({', '.join(rows)}) "
            f"AND day >= DATE '{since - timedelta(days=1):%Y-%m-%d}' "
            f"AND ts >= TIMESTAMPTZ '{since:%Y-%m-%d %H:%M:%S.%f}+00' AND ts < TIMESTAMPTZ '{moment}'"
        )


def read_pairs(path: Path | None) -> AllowedPairs:
    """Read the file of the setting ``novelty.allowed_pairs``; without one nothing is refused.

    Raises:
        SettingsError: it cannot be read, or a line of it is wrong.
    """
    if path is None:
        return AllowedPairs()
    try:
        lines = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SettingsError(SETTING, f"cannot read {path}: {problem}", "name a YAML file with a list") from error
    if not isinstance(lines, list):
        raise SettingsError(SETTING, f"{path} holds no list", "write lines `- {prompt: NAME, models: [MODEL]}`")
    return AllowedPairs(tuple(_line(f"{path}, entry {n}", line) for n, line in enumerate(lines, 1)))


def _line(where: str, line: Any) -> AllowedPair:
    remedy = 'write `{prompt: NAME, version: "18", models: [MODEL], app: APP}`; version and app may be missing'
    if not isinstance(line, dict) or not set(line) <= _KEYS or not {"prompt", "models"} <= set(line):
        raise SettingsError(SETTING, f"{where} is not an allowed pair", remedy)
    models = line["models"]
    if not isinstance(models, list) or not models or not all(isinstance(model, str) for model in models):
        raise SettingsError(SETTING, f"{where}: models is no list of names", remedy)
    texts = {name: line[name] for name in ("prompt", "version", "app") if line.get(name) is not None}
    if not all(isinstance(text, str | int) and not isinstance(text, bool) for text in texts.values()):
        raise SettingsError(SETTING, f"{where}: prompt, version and app are texts", remedy)
    return AllowedPair(models=frozenset(models), **{name: str(text) for name, text in texts.items()})


def skews(lake: ReadOnlyLake, pairs: AllowedPairs, known_at: datetime) -> list[Skew]:
    """Return the prompts that ran, within a day before ``known_at``, on models that they may not run on."""
    if not pairs.lines:
        return []
    since = known_at - timedelta(days=1)
    asked = [(since - timedelta(days=1)).date(), since, known_at, NOT_USER_FACING]
    return refused(lake.query(_USED, asked).to_pylist(), pairs)


def refused(rows: Iterable[dict[str, Any]], pairs: AllowedPairs) -> list[Skew]:
    """Return one skew an app and prompt, of rows of app, prompt_name, prompt_version, models, first and calls."""
    found: defaultdict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        allowed = pairs.models(row["app"], row["prompt_name"], row["prompt_version"])
        if allowed is not None and not {row["model"], row["response_model"]} & allowed:
            found[row["app"], row["prompt_name"]].append(row)
    return [_skew(app, prompt, mine) for (app, prompt), mine in sorted(found.items())]


def _skew(app: str, prompt: str, rows: Sequence[dict[str, Any]]) -> Skew:
    most = sorted(rows, key=lambda row: -row["calls"])[:_MOST_ROWS]
    first = min(row["first"] for row in most).astimezone(UTC)
    names = ("prompt_version", "model", "response_model", "calls")
    return Skew(app, prompt, first, tuple(tuple(row[name] for name in names) for row in most))
