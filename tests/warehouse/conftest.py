"""A real lake per test: made once a session, copied, because making one takes two seconds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

NOW = 1_795_000_000_000_000  # 2026-11-18, µs UTC


@pytest.fixture(scope="session")
def fresh_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fresh") / "home"
    Lake.open(LakeConfig(str(home / "catalog.sqlite"), str(home / "data")), now=lambda: NOW).close()
    return home


@pytest.fixture
def config(fresh_home: Path, tmp_path: Path) -> LakeConfig:
    home = tmp_path / "home"
    shutil.copytree(fresh_home, home)
    return LakeConfig(str(home / "catalog.sqlite"), str(home / "data"))


@pytest.fixture
def lake(config: LakeConfig) -> Iterator[Lake]:
    with Lake.open(config, now=lambda: NOW) as opened:
        opened.ensure_partitions("llm.events", "topic-1", {0: 0, 1: 0})
        yield opened


@pytest.fixture(scope="session")
def rows() -> type[Rows]:
    return Rows


class Rows:
    """Hand-made rows, as decoding would make them."""

    @staticmethod
    def call(offset: int, partition: int = 0, **said: object) -> dict[str, Any]:
        import uuid
        from datetime import UTC, datetime, timedelta

        at = datetime(2026, 11, 18, 10, tzinfo=UTC) + timedelta(seconds=offset)
        return {
            "v": 1,
            "id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{partition}/{offset}")),
            "ts": at,
            "app": "bot",
            "model": "gpt-4o",
            "status": "ok",
            "_epoch": 0,
            "_partition": partition,
            "_offset": offset,
            "_kafka_time": at,
            "_landed_at": at,
            "_dup": False,
            "day": at.date(),
            **said,
        }

    @staticmethod
    def table(name: str, rows: list[dict[str, object]]):
        import pyarrow as pa

        from schemas.tables import TABLES

        schema = next(t for t in TABLES if t.name == name).schema
        return pa.Table.from_pylist(rows, schema=schema)

    @classmethod
    def calls(cls, offsets: range, partition: int = 0, **said: object):
        return cls.table("raw_calls", [cls.call(o, partition, **said) for o in offsets])

    @classmethod
    def dead(cls, offset: int, partition: int = 0, topic: str = "llm.events"):
        at = cls.call(offset)["ts"]
        row = {
            "topic": topic,
            "_epoch": 0,
            "_partition": partition,
            "_offset": offset,
            "_kafka_time": at,
            "reason": "not_json",
            "day": at.date(),
        }
        return cls.table("dead", [row])
