"""A lake for the golden set: calls that failed, words on them, reviews; refreshed, asked, and shown by the commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import typer
from typer.testing import CliRunner

from jobs.golden import GoldenReport, GoldenSettings, content_hash, refresh
from schemas.records import Move
from schemas.tables import TABLES
from tailrace.cli import golden as golden_commands
from tailrace.cli.context import NotRunningError
from tailrace.settings.model import LakeSettings, Settings
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

REPO = Path(__file__).parents[3]
NOW = 1_795_000_000_000_000  # 2026-11-18 11:06, µs UTC
DAY = date(2026, 11, 18)
WEEK_US = 7 * 86_400_000_000
EVENTS = "llm.events"
SMALL = GoldenSettings(size=20)


def now() -> int:
    return NOW


def uid(number: int, kind: int = 0) -> str:
    return f"00000000-0000-4000-8000-{kind:04d}{number:08d}"


def said(number: int) -> str:
    return " ".join(f"w{number}x{i}" for i in range(12))


def call(offset: int, **changes: Any) -> dict[str, Any]:
    at = datetime(DAY.year, DAY.month, DAY.day, 10, tzinfo=UTC) + timedelta(seconds=offset)
    text = changes.pop("text", said(offset))
    return {
        "v": 1,
        "id": uid(offset),
        "ts": at,
        "app": "bot",
        "feature": "chat",
        "model": "gpt-4o",
        "status": "ok",
        "content_mode": "redacted",
        "messages": [{"role": "user", "text": text}],
        "input_text": text,
        "output_text": f"answer {offset}",
        "_epoch": 0,
        "_partition": 0,
        "_offset": offset,
        "_kafka_time": at,
        "_landed_at": at,
        "_dup": False,
        "day": at.date(),
        **changes,
    }


def failed(offset: int, **changes: Any) -> dict[str, Any]:
    return call(offset, status="error", **changes)


def word(number: int, **changes: Any) -> dict[str, Any]:
    """Feedback or an eval, at its own place in the log."""
    at = datetime(DAY.year, DAY.month, DAY.day, 10, 30, tzinfo=UTC) + timedelta(seconds=number)
    place = {"_epoch": 0, "_partition": 1, "_offset": number, "_kafka_time": at, "_landed_at": at, "_dup": False}
    return {"v": 1, "id": uid(number, 1), "ts": at, "app": "bot", "day": at.date(), **place, **changes}


def review(number: int, case: str, verdict: str, expected: str | None = None, *, at: int = NOW) -> dict[str, Any]:
    row = {"id": f"r{number}", "actor": "ann", "case_id": case, "verdict": verdict, "expected": expected, "note": None}
    when = datetime.fromtimestamp(at / 1e6, UTC)
    return {"table": "golden_reviews", "at": when, "row": json.dumps(row), "_partition": 0, "_offset": number}


class Here:
    """What a command gets: settings of this lake, and no Kafka."""

    def __init__(self, config: LakeConfig) -> None:
        lake = LakeSettings(catalog=config.catalog, data_path=config.data_path)
        self.settings = Settings(home=Path(config.catalog).parent, lake=lake)

    @property
    def bootstrap_servers(self) -> str:
        raise NotRunningError(self.settings.home)


Tailrace = Callable[..., str]


class Home:
    """A lake to land into, refresh and ask."""

    def __init__(self, config: LakeConfig) -> None:
        self.config = config

    def land(self, calls: Sequence[Mapping[str, Any]] = (), **others: Sequence[Mapping[str, Any]]) -> None:
        schemas = {table.name: table.schema for table in TABLES}
        rows = {"raw_calls": calls, **others}
        batches = {name: pa.Table.from_pylist(list(r), schema=schemas[name]) for name, r in rows.items() if r}
        with Lake.open(self.config, now=now) as lake:
            lake.ensure_partitions(EVENTS, "topic-1", {0: 0})
            start = lake.ledger()[EVENTS, 0]
            lake.append(batches, [Move(EVENTS, 0, start, start + len(calls))])

    def refresh(self, settings: GoldenSettings = SMALL, **changes: Any) -> GoldenReport:
        return refresh(self.config, **{"now": now, "settings": settings, "owner": "test", **changes})

    def ask(self, sql: str, *params: object) -> list[dict[str, Any]]:
        with ReadOnlyLake.open(self.config) as lake:
            return list(lake.query(sql, params).to_pylist())

    def cases(self) -> dict[int, dict[str, Any]]:
        return {row["call_offset"]: row for row in self.ask("FROM golden")}

    def hashes(self, set_name: str = "production") -> list[str]:
        """Of every version; recomputed from its cases each is what golden_versions says, unless some were blanked."""
        versions = self.ask("FROM golden_versions WHERE set_name = $1 ORDER BY version", set_name)
        stored = self.ask("SELECT DISTINCT version FROM golden_cases WHERE set_name = $1 ORDER BY 1", set_name)
        assert [row["version"] for row in stored] == [v["version"] for v in versions if v["cases"]]
        for version in versions:
            cases = self.ask("FROM golden_cases WHERE set_name = $1 AND version = $2", set_name, version["version"])
            assert len(cases) == version["cases"] == version["added"] + version["kept"]
            assert len({case["case_id"] for case in cases}) == len(cases)
            assert sum(case["input_text"] is None for case in cases) == version["blanked"]
            assert (content_hash(cases) == version["content_hash"]) == (version["blanked"] == 0)
        return [version["content_hash"] for version in versions]


def copied(source: Path, target: Path) -> Home:
    shutil.copytree(source, target)
    return Home(LakeConfig(str(target / "catalog.sqlite"), str(target / "data")))


def golden_of(config: LakeConfig) -> Tailrace:
    """Return what runs a sub-command of ``golden``: it gives what was printed, and raises what was raised."""

    app = typer.Typer()
    golden_commands.add_to(app)

    def run(*words: str) -> str:
        done = CliRunner().invoke(app, ("golden", *words), obj=Here(config))
        if done.exception:
            raise done.exception
        return done.stdout

    return run
