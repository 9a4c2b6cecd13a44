"""How well a golden set covers real traffic: duplicates, topics, and a regression on a rare topic.

    .venv/bin/python bench/golden.py     # QUICK=1: a fifth of the texts and of the calls, one round

A week of calls goes through the real lake and the real refresh. What users ask are 3,300 real questions (AlpacaEval,
MT-bench, Arena-Hard, HaluEval, GSM8K, jailbreaks and injected instructions) and light edits of a fifth of them. The
topics that coverage is measured on come from another method than the product's: average linkage of all texts at once,
groups of eight and more whose mean cosine is 0.4. Four fifths of the calls fall into them, by Zipf's law with exponent
1.5; the others ask one of the scattered texts. 3 % of the calls fail, and a third of those of the largest topic.

- duplicate_share: cases that ask what an earlier case asks (an edit of the same text, or cosine 0.95 and more).
- coverage: share of the traffic of the topics whose topic has a case.
- planted_ratio: a candidate fails on one rare topic (at most 0.2 % of the traffic). The gate shows it where the set has
  a case of that topic. The chance of that over all rare topics, divided by that of random sets of the same size.
- vanished_found, live_dropped, scattered_dropped: the share of unreviewed cases that leaves, of topics whose traffic
  ends, of the other topics, of scattered texts.

The data is the folder of TAILRACE_TEST_DATA (default ../shared/data). Vectors are kept in the user's cache folder, so
that a second run embeds nothing. The last line is one JSON object.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from _report import QUICK, REPO, report, spread
from scipy.cluster.hierarchy import fcluster, linkage

from jobs.evals.scorers import Embedding
from jobs.golden import GoldenSettings, redactor, refresh
from jobs.golden.cases import chat_text
from jobs.golden.topics import SAME
from jobs.golden.topics import topics as topics_of
from pipelines.drift.vectors import Floats
from schemas.records import Move
from schemas.tables import RAW_CALLS
from tailrace.settings.model import GoldenSettings as Defaults
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig

DATA = Path(os.environ.get("TAILRACE_TEST_DATA") or REPO.parent / "shared" / "data") / "texts"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tailrace" / "bench" / "golden.npz"
ROUNDS = 1 if QUICK else 3
EVERY = 5 if QUICK else 1
CALLS = 4_000 if QUICK else 20_000
FEWEST = 4 if QUICK else 8
RARE = 0.01 if QUICK else 0.002
SCATTERED = 0.2
ZIPF = 1.5
TRAFFIC = Defaults().traffic
SIZE = 60 if QUICK else 200
DRAWS = 400
DAY_US = 86_400_000_000
NOW = 1_795_000_000_000_000
MONDAY = NOW - NOW % DAY_US - 7 * DAY_US
CHARS = 1_500
SOURCES = {
    "alpaca": "SELECT instruction FROM 'DATA/alpaca_eval_instructions.parquet' ORDER BY instruction_id",
    "arena": "SELECT turns[1] FROM 'DATA/bench_questions.parquet' ORDER BY bench, question_id",
    "halu": "SELECT user_query FROM 'DATA/halueval_general.parquet' ORDER BY md5(id) LIMIT 1200",
    "gsm": "SELECT DISTINCT question FROM 'DATA/gsm8k_model_solutions.parquet' ORDER BY md5(question) LIMIT 300",
    "safety": "SELECT prompt FROM 'DATA/safety_prompts.parquet' ORDER BY md5(prompt) LIMIT 200",
    "bipia": "SELECT instruction FROM 'DATA/bipia_injected_instructions.parquet' ORDER BY instruction",
}
Ints = npt.NDArray[np.int64]


class Vectors:
    """Vectors of texts, kept in a file by the hash of the text."""

    def __init__(self) -> None:
        self.embedded = 0
        self._model = Embedding()
        self._kept: dict[str, Floats] = {}
        if CACHE.exists():
            with np.load(CACHE) as kept:
                self._kept = dict(zip(kept["keys"].tolist(), kept["vectors"], strict=True))

    def __call__(self, texts: Sequence[str]) -> Floats:
        """Return (n, 384) float32, unit norm."""
        keys = [hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:24] for text in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._kept}
        if missing:
            found = self._model.vectors(list(missing.values()))
            self._kept |= dict(zip(missing, found, strict=True))
            self.embedded += len(missing)
        return np.stack([self._kept[key] for key in keys]) if keys else np.empty((0, 384), np.float32)

    def close(self) -> None:
        """Keep what was embedded, and end the model."""
        self._model.close()
        if self.embedded:
            CACHE.parent.mkdir(parents=True, exist_ok=True)
            draft = CACHE.with_name(f".{os.getpid()}.npz")
            np.savez(draft, keys=np.array(list(self._kept)), vectors=np.stack(list(self._kept.values())))
            draft.replace(CACHE)


def questions() -> list[str]:
    """Return each text once, without personal data: as a case holds it."""
    none = dict.fromkeys(("system_text", "messages", "input_text", "output_text", "retrieval_docs", "variables"))
    found: dict[str, None] = {}
    for sql in SOURCES.values():
        for (text,) in duckdb.sql(sql.replace("DATA", str(DATA))).fetchall():
            if text and text.strip():
                found[redactor(none)(text[:CHARS]) or ""] = None
    return list(found)[::EVERY]


def edited(text: str, kind: int) -> str:
    """Return the question as another user types it."""
    if kind == 0:
        return text.lower().rstrip(" .?!")
    if kind == 1:
        return f"Hello! {text} Thanks."
    if kind == 2:
        return re.sub(r"(\w{3})(\w)(\w)(\w*)", r"\1\3\2\4", text, count=1)
    return " ".join(text.split()) + " please"


class World:
    """Texts, which question each asks, and its topic."""

    def __init__(self, vectors: Vectors) -> None:
        base = questions()
        edits = [(i, edited(base[i], i // 5 % 4)) for i in range(0, len(base), 5)]
        edits = [(i, text) for i, text in edits if text not in set(base)]
        self.texts = [*base, *(text for _, text in edits)]
        self.asks = np.array([*range(len(base)), *(i for i, _ in edits)])
        self.vectors = vectors(self.texts)
        groups = fcluster(linkage(self.vectors[: len(base)], "average", metric="cosine"), 0.6, "distance")
        large = np.flatnonzero(np.bincount(groups) >= FEWEST)
        of_base = np.where(np.isin(groups, large), np.searchsorted(large, groups), -1)
        self.count = len(large)
        self.topics: Ints = of_base[self.asks].astype(np.int64)
        """Of each text; -1: scattered."""
        self.number = {text: i for i, text in enumerate(self.texts)}

    def traffic(self, seed: int, rng: np.random.Generator) -> tuple[npt.NDArray[np.floating[Any]], Ints]:
        """Return the share of each topic in the traffic of all topics, and which text each call asks."""
        shares = 1.0 / np.arange(1, self.count + 1) ** ZIPF
        shares = np.random.default_rng(seed).permutation(shares / shares.sum())
        counts = np.bincount(self.topics[self.topics >= 0], minlength=self.count)
        here = (1 - SCATTERED) * shares[self.topics] / counts[self.topics]
        weights = np.where(self.topics >= 0, here, SCATTERED / (self.topics < 0).sum())
        return shares, rng.choice(len(self.texts), CALLS, p=weights / weights.sum())


def land(lake: Lake, world: World, asked: Ints, rng: np.random.Generator, *, start: int, first: int) -> None:
    """Append a week of calls that ask ``asked``; 3 % fail, and a third of one topic's."""
    count = len(asked)
    outage = int(np.bincount(world.topics[asked] + 1)[1:].argmax())
    fails = rng.random(count) < np.where(world.topics[asked] == outage, 0.33, 0.03)
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    times = [zero + timedelta(microseconds=start + i * 7 * DAY_US // count) for i in range(count)]
    texts = [world.texts[i] for i in asked]
    columns: dict[str, Any] = {
        "v": [1] * count,
        "id": [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(count)],
        "ts": times,
        "app": ["assistant"] * count,
        "feature": ["chat"] * count,
        "model": ["model-a"] * count,
        "status": ["error" if failed else "ok" for failed in fails],
        "content_mode": ["redacted"] * count,
        "messages": [[{"role": "user", "text": text}] for text in texts],
        "input_text": texts,
        "output_text": [f"answer {i}" for i in range(count)],
        "_epoch": [0] * count,
        "_partition": [0] * count,
        "_offset": list(range(first, first + count)),
        "_kafka_time": times,
        "_landed_at": times,
        "_dup": [False] * count,
        "day": [at.date() for at in times],
    }
    rows = pa.table({name: pa.array(values, RAW_CALLS.schema.field(name).type) for name, values in columns.items()})
    lake.append({"raw_calls": rows}, [Move("llm.events", 0, first, first + count)])


def asked_in(config: LakeConfig, world: World) -> Ints:
    """Return which text each case of the newest version asks."""
    with ReadOnlyLake.open(config) as lake:
        cases = lake.query("FROM golden ORDER BY added_in, case_id").to_pylist()
    return np.array([world.number[chat_text(case)] for case in cases], dtype=np.int64)


def duplicates(world: World, cases: Ints) -> float:
    """Return the share of cases that ask what an earlier one asks."""
    near = np.triu(world.vectors[cases] @ world.vectors[cases].T >= SAME, 1).any(axis=0)
    same = np.triu(world.asks[cases][:, None] == world.asks[cases][None, :], 1).any(axis=0)
    return float((near | same).mean())


def covered(shares: npt.NDArray[np.floating[Any]], topics: Ints) -> float:
    """Return the share of the traffic of topics with a case."""
    return float(shares[np.unique(topics[topics >= 0])].sum())


def found_share(topics: Ints, rare: Ints) -> float:
    """Return the share of the ``rare`` topics with a case."""
    return float(np.isin(rare, topics).mean())


def one(world: World, vectors: Vectors, seed: int, folder: Path) -> dict[str, float]:
    """Make a set of one week, then let the rarest half of its topics end and refresh it five weeks later."""
    rng = np.random.default_rng(seed)
    config = LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data"))
    shares, asked = world.traffic(seed, rng)
    settings = GoldenSettings(size=SIZE, healthy=0.1, traffic=TRAFFIC)
    with Lake.open(config, now=lambda: NOW) as lake:
        lake.ensure_partitions("llm.events", "topic-1", {0: 0})
        land(lake, world, asked, rng, start=MONDAY, first=0)
    began = time.monotonic()
    refreshed = refresh(config, now=lambda: NOW, settings=settings, owner="bench", vectors=vectors)
    took = time.monotonic() - began
    cases = asked_in(config, world)
    rare = np.flatnonzero(shares * (1 - SCATTERED) <= RARE)
    random_sets = [world.topics[rng.choice(asked, len(cases), replace=False)] for _ in range(DRAWS)]
    random_found = float(np.mean([found_share(topics, rare) for topics in random_sets]))
    found = found_share(world.topics[cases], rare)
    ended = rng.choice(world.count, world.count // 3, replace=False)
    gone, kept, scattered = vanish(config, world, vectors, ended, (seed, rng), settings)
    print(f"seed {seed}: {refreshed.text()}", flush=True)
    return {
        **{"duplicate_share": duplicates(world, cases), "coverage": covered(shares, world.topics[cases])},
        "coverage_random": float(np.mean([covered(shares, topics) for topics in random_sets])),
        **{"planted_ratio": found / random_found, "planted_found": found, "planted_found_random": random_found},
        **{"reported_coverage": refreshed.coverage or 0.0, "cases": float(len(cases)), "refresh_s": took},
        **{"vanished_found": gone, "live_dropped": kept, "scattered_dropped": scattered},
    }


def vanish(
    config: LakeConfig,
    world: World,
    vectors: Vectors,
    ended: Ints,
    drawn: tuple[int, np.random.Generator],
    settings: GoldenSettings,
) -> tuple[float, float, float]:
    """Return the share of cases that left: of the topics that ``ended``, of the other topics, of scattered texts."""
    seed, rng = drawn
    before = asked_in(config, world)
    later = NOW + 35 * DAY_US
    _, asked = world.traffic(seed, rng)
    asked = asked[~np.isin(world.topics[asked], ended)]
    with Lake.open(config, now=lambda: later) as lake:
        land(lake, world, asked, rng, start=later - 7 * DAY_US, first=CALLS)
    sample = [world.texts[i] for i in rng.choice(asked, min(TRAFFIC, len(asked)), replace=False)]
    found = topics_of(sample, vectors, size=SIZE)
    assert found
    live, here = found.live(world.vectors[before]), np.isin(world.topics[before], ended)
    refreshed = refresh(config, now=lambda: later, settings=settings, owner="bench", vectors=vectors)
    print(f"    five weeks later: {refreshed.text()}", flush=True)
    other, alone = ~here & (world.topics[before] >= 0), world.topics[before] < 0
    return tuple(float((~live[of]).mean()) for of in (here, other, alone))  # type: ignore[return-value]


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"bench/golden needs the test data in {DATA}: set TAILRACE_TEST_DATA")
    vectors = Vectors()
    try:
        world = World(vectors)
        print(f"{len(world.texts)} texts, {vectors.embedded} embedded now", flush=True)
        rounds = []
        for seed in range(ROUNDS):
            with tempfile.TemporaryDirectory() as folder:
                rounds.append(one(world, vectors, seed, Path(folder)))
    finally:
        vectors.close()
    figures: dict[str, Any] = {name: round(float(np.mean([r[name] for r in rounds])), 4) for name in rounds[0]}
    figures["spread"] = spread([r["coverage"] for r in rounds], 4)
    figures["spread_ratio"] = spread([r["planted_ratio"] for r in rounds], 2)
    figures |= {"calls": CALLS, "texts": len(world.texts), "topics": world.count, "rounds": ROUNDS}
    ok = figures["duplicate_share"] < 0.01 and figures["coverage"] >= 0.95 and figures["planted_ratio"] >= 2
    report({**figures, "ok": ok}, "numpy", "scipy", "duckdb")
    if not ok and not QUICK:
        sys.exit(1)


if __name__ == "__main__":
    main()
