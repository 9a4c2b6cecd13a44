"""Topics as strata: two clusters of vectors, one of them rare, in a real lake."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np

from jobs.evals.settings import EvalSettings
from jobs.evals.topics import topics
from tests.jobs.evals.lake import MONDAY, LakeOutlet, ask, call, land_calls, run, uid
from warehouse.storage.connect import LakeConfig

AT = datetime(MONDAY.year, MONDAY.month, MONDAY.day, tzinfo=UTC)


def vectors(sizes: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(1)
    centres = np.eye(384, dtype=np.float32)[: len(sizes)] * 100
    return np.concatenate(
        [centre + rng.normal(0, 0.6, (size, 384)) for centre, size in zip(centres, sizes, strict=True)]
    ).astype(np.int8)


def embedding(number: int, vector: np.ndarray, **changes: object) -> dict[str, object]:
    named = {"call_id": uid(number), "app": "bot", "side": "input", "ts": AT, "embedding_model": "m", "scale": 0.01}
    place = {"_epoch": 0, "_partition": 0, "_offset": number, "_kafka_time": AT, "_landed_at": AT}
    return {**named, **place, "vector": vector.tolist(), "day": AT.date(), **changes}


def test_texts_of_two_subjects_are_two_topics_and_few_texts_are_one() -> None:
    found = topics(vectors((150, 40)))
    assert len(set(found[:150])) == len(set(found[150:])) == 1
    assert found[0] != found[150]
    assert topics(vectors((20, 20))).tolist() == [0] * 40
    assert topics(np.empty((0, 384), np.int8)).tolist() == []


def test_a_rare_topic_is_a_stratum_with_a_floor(config: LakeConfig, outlet: LakeOutlet) -> None:
    made = vectors((150, 40))
    late = AT + timedelta(days=30)  # after the run began: another draw would follow
    land_calls(
        config,
        [call(i) for i in range(400)],
        embeddings=[embedding(i, made[i]) for i in range(190)]
        + [embedding(300 + i, made[i], _landed_at=late) for i in range(50)]
        + [embedding(350 + i, made[i], side="output") for i in range(50)],
    )
    report = run(config, outlet, settings=EvalSettings(size=60, floor=15))
    assert (report.calls, report.strata, report.sampled) == (400, 3, 60)
    outlet.land()
    rows = ask(config, "SELECT extra FROM evals WHERE name = 'complete'")
    extra = [json.loads(row["extra"]) for row in rows]
    sizes = Counter((each["stratum"], each["stratum_calls"]) for each in extra)
    named = {(json.loads(key)[5:] or [""])[0][:5]: count for key, count in sizes}
    assert sorted(count for _, count in sizes) == [40, 150, 210]
    assert named[""] == 210
    assert all(count >= 15 for count in sizes.values())
    assert sum(1 / each["inclusion_probability"] for each in extra) == 400
    again = run(config, outlet, settings=EvalSettings(size=60, floor=15))
    assert (again.scores, again.skipped) == (0, 180)


def test_topics_with_few_calls_stay_with_the_others(config: LakeConfig, outlet: LakeOutlet) -> None:
    made = vectors((150, 20))
    land_calls(config, [call(i) for i in range(200)], embeddings=[embedding(i, made[i]) for i in range(170)])
    report = run(config, outlet, settings=EvalSettings(size=60, floor=15))
    assert (report.calls, report.strata) == (200, 2)
