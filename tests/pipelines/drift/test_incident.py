"""The SQL of an alert counts exactly the number in it; what it names is what moved."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import msgspec
import numpy as np
import pyarrow as pa

from pipelines.drift.clusters import short
from pipelines.drift.features import measure, moved
from pipelines.drift.points import Point, encode
from pipelines.drift.watch import Watch, WatchConfig
from schemas.alerts import Alert
from schemas.rollups import Sample

Make = Callable[..., list[Point]]
STEADY = {t: 1.0 for t in range(8)}


def landed(points: list[Point]) -> pa.Table:
    """``points`` as the table embeddings holds them."""
    samples = [Sample(p.call_id, p.app, p.side, p.text, p.ts, p.partition, p.offset, feature=p.feature) for p in points]
    return pa.ipc.open_stream(encode(points, samples, model="m", span=(0, 1)).value).read_all()


def counted(alert: Alert, points: list[Point]) -> float:
    with duckdb.connect() as connection:
        connection.register("embeddings", landed(points))
        found = connection.execute(alert.evidence.sql).fetchone()
    assert found is not None
    return float(found[0])


def test_the_sql_returns_the_number_in_the_message(texts: Make) -> None:
    for seed, app in ((1, "bot"), (2, 'bob\'s "bot"')):
        points = [*texts(seed, STEADY, 500), *texts(seed, {**STEADY, 20: 8.0}, 300, start=500)]
        points = [msgspec.structs.replace(p, app=app) for p in points]
        alert = Watch(app, "input", WatchConfig()).step(points)[0]
        assert counted(alert, points) == alert.observed
        assert counted(alert, points + points[-200:]) == alert.observed  # embedded twice, counted once


def test_the_sql_of_a_features_alert_counts_that_feature(texts: Make) -> None:
    def both(count: int, shares: dict[int, float], start: int) -> list[Point]:
        a = texts(3, {0: 1, 1: 1}, count, start=start, feature="it's chat")
        b = texts(4, shares, count, start=start, feature="search")
        return [x if i % 3 else y for i, (x, y) in enumerate(zip(b, a, strict=True))]

    points = [*both(900, {4: 1, 5: 1}, 0), *both(300, {4: 1, 20: 2}, 900)]
    alert = Watch("bot", "input", WatchConfig()).step(points)[0]
    assert alert.series["feature"] == "search"
    assert counted(alert, points) == alert.observed


def test_the_tenant_that_brings_the_new_topic_is_named(texts: Make) -> None:
    calm = [msgspec.structs.replace(p, tenant=f"t{i % 5}") for i, p in enumerate(texts(5, STEADY, 600))]
    drift = texts(5, {**STEADY, 20: 8.0}, 200, start=600)
    drift = [msgspec.structs.replace(p, tenant="acme" if "topic 20" in p.text else "t1") for p in drift]
    alert = Watch("bot", "input", WatchConfig()).step([*calm, *drift])[0]
    assert ("tenant", "acme") in {(c.dimension, c.value) for c in alert.cause}


def test_what_moved_in_words(texts: Make) -> None:
    before = [f"Please help me with order {i}, it is late again." for i in range(30)]
    after = [f"why?? {i}" for i in range(30)]
    names = [name for name, *_ in moved(before, after)]
    assert "length" in names
    assert moved(before, before) == []
    assert np.isfinite(measure("")).all()


def test_an_example_is_one_short_line() -> None:
    assert short("a\n\n  b") == "a b"
    assert len(short("x" * 500)) == 80
