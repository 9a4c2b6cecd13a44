"""Prompts of real people as texts of the calls: S2, a shift of topics, and Q5, other prompts on the same topics."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
from _incidents_calls import Array, Calls
from _incidents_scenarios import Incident, Scenario
from _incidents_worlds import DATA, World

from pipelines.drift.embed import EmbedConfig, ModelProcess
from pipelines.drift.vectors import Floats
from pipelines.meter.sample import TEXT_CHARS

PEOPLE, OTHERS = ("selfinstruct",), ("koala", "oasst")
"""Subsets of AlpacaEval's instructions: 80 % of the calls before, and after a shift."""
_INSTRUCTIONS = "SELECT subset AS topic, instruction AS text FROM read_parquet($1) ORDER BY instruction_id"
_MATHS = (
    "SELECT DISTINCT ON (question_id) 'maths' AS topic, question AS text FROM read_parquet($1) ORDER BY question_id"
)


class Texts:
    """All prompts, and which topic each is of."""

    def __init__(self) -> None:
        rows = self._read("alpaca_eval_instructions", _INSTRUCTIONS) + self._read("gsm8k_model_solutions", _MATHS)
        rows = [row for row in rows if is_kept(row[1])]
        self.texts = [text for _, text in rows]
        self.topics = np.array([topic for topic, _ in rows])

    @staticmethod
    def _read(name: str, query: str) -> list[tuple[str, str]]:
        return duckdb.execute(query, [str(DATA / "texts" / f"{name}.parquet")]).fetchall()

    def draw(self, size: int, shares: dict[tuple[str, ...], float], draws: np.random.Generator) -> Array:
        """Return (size,) indices of texts: topics by their shares."""
        groups = list(shares)
        pools = [np.flatnonzero(np.isin(self.topics, list(group))) for group in groups]
        chosen = draws.choice(len(groups), size, p=list(shares.values()))
        return np.array([draws.choice(pools[group]) for group in chosen], np.int64)


def is_kept(text: str) -> bool:
    """Whether the stages hand a text on as it is, so that its vector is found again."""
    return bool(text.strip()) and len(text) <= TEXT_CHARS and all(c.isprintable() or c in "\n\t" for c in text)


class Kept:
    """Vectors of unique texts, computed once and kept in a file."""

    def __init__(self, file: Path, texts: Sequence[str]) -> None:
        self.model = "all-MiniLM-L6-v2"
        digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]
        kept = file.with_name(f"{file.name}-{digest}.npy")
        if not kept.exists():
            process = ModelProcess(EmbedConfig())
            try:
                np.save(kept, process.encode(list(texts)))
            finally:
                process.close()
        vectors = np.load(kept)
        self._known = {text: vectors[i] for i, text in enumerate(texts)}

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return the vectors of texts that were embedded before."""
        return np.stack([self._known[text] for text in texts]).astype(np.float32)

    def close(self) -> None:
        """Nothing to let go of."""


BEFORE = {PEOPLE: 0.8, OTHERS: 0.2}


def with_prompts(world: World, texts: Texts, seed: int) -> World:
    """Return ``world`` with a prompt in every call, of the usual topics."""
    draws = np.random.default_rng([seed, 7])
    calls = replace(world.calls, text=texts.draw(len(world.calls), BEFORE, draws))
    return replace(world, calls=calls, naming=replace(world.naming, texts=texts.texts))


def other_half(world: World, texts: Texts, seed: int) -> World:
    """Q5: from the middle on other prompts of the same topics, which never came before."""
    draws = np.random.default_rng([seed, 8])
    half = draws.random(len(texts.texts)) < 0.5
    middle = int(np.median(world.calls.t))
    parts = []
    for kept, here in ((half, world.calls.t < middle), (~half, world.calls.t >= middle)):
        mine = Texts.__new__(Texts)
        mine.texts, mine.topics = texts.texts, np.where(kept, texts.topics, "")
        parts.append(mine.draw(int(here.sum()), BEFORE, draws))
    calls = replace(world.calls, text=np.concatenate(parts))
    return replace(world, calls=calls, naming=replace(world.naming, texts=texts.texts))


def shift(texts: Texts, after: dict[tuple[str, ...], float]) -> Callable[[World, Calls, np.random.Generator], Incident]:
    """S2: the mix of topics becomes ``after``."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        everywhere = np.arange(len(calls))
        changed = calls.changed(everywhere, text=texts.draw(len(calls), after, draws))
        new = [topic for group in after if after[group] > BEFORE.get(group, 0.0) for topic in group]
        return Incident(changed, np.isin(texts.topics[changed.text], new), frozenset())

    return make


def scenarios(texts: Texts) -> list[Scenario]:
    """Return the grades of S2."""
    maths = {PEOPLE: 0.68, OTHERS: 0.17, ("maths",): 0.15}
    return [
        Scenario("S2 topics 80 %", ("input_drift",), 30, shift(texts, {PEOPLE: 0.2, OTHERS: 0.8}), world="texts"),
        Scenario("S2 maths 15 %", ("input_drift",), 30, shift(texts, maths), world="texts"),
    ]
