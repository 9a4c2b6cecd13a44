"""Answers of real models as texts of the calls: S1 silent swap, S5 injected documents, S16 constant answers, S18
gibberish, and Q5 for answers: the same model, other instructions.

Each world has the answers of one model to AlpacaEval's instructions, in random order, each once before any comes
again; token counts are those of the texts (four characters a token). A retrieved text is a paragraph of another model's
answer. The streams are short (three hours), as the pool has 805 instructions: a longer one flatters any memory.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb
import numpy as np
from _incidents_calls import MODELS, Array, Calls
from _incidents_scenarios import Incident, Make, Scenario
from _incidents_texts import is_kept
from _incidents_worlds import DATA, World
from text_signals import looped, misread, planted, shuffled

SWAPS = {
    "S1 easy": (("gpt4_1106_preview", "gpt-3.5-turbo-1106"), ("gpt-3.5-turbo-0613", "gpt-3.5-turbo-1106")),
    "S1 medium": (
        ("gpt-4-turbo-2024-04-09", "gpt-4-0125-preview"),
        ("claude-3-opus-20240229", "claude-3-sonnet-20240229"),
        ("Mistral-7B-Instruct-v0.2", "Mistral-7B-Instruct-v0.3"),
        ("Meta-Llama-3-8B-Instruct", "Meta-Llama-3.1-8B-Instruct-Turbo"),
    ),
    "S1 hard": (("gpt4_0314", "gpt4_0613"), ("claude-2", "claude-2.1")),
    "S1 very hard": (
        ("gpt-4o-2024-05-13", "gpt-4o-mini-2024-07-18"),
        ("Meta-Llama-3-70B-Instruct", "Meta-Llama-3-8B-Instruct"),
        ("Qwen1.5-72B-Chat", "Qwen1.5-7B-Chat"),
    ),
}
"""Grade -> pairs of models, by how many calls 17 style features need (incidents S1)."""
DEADLINES = {"S1 easy": 5.0, "S1 medium": 20.0, "S1 hard": 120.0, "S1 very hard": 120.0}
STYLE = ("output_drift",)
_CHARS_PER_TOKEN = 4
_PARAGRAPHS = "gpt4_0613_verbose"


def pool(*models: str) -> tuple[list[str], list[list[str]]]:
    """Return the instructions that all ``models`` answered, and per model its answers in their order."""
    query = """SELECT i.instruction_id, i.instruction, o.model, o.output FROM read_parquet($1) AS o
    JOIN read_parquet($2) AS i USING (instruction_id) WHERE list_contains($3, o.model) ORDER BY ALL"""
    files = [str(DATA / "texts" / f"alpaca_eval_{name}.parquet") for name in ("outputs", "instructions")]
    found: dict[int, dict[str, str]] = {}
    asked: dict[int, str] = {}
    for number, instruction, model, output in duckdb.execute(query, [*files, list(models)]).fetchall():
        if is_kept(instruction) and (output or "").strip():
            found.setdefault(number, {})[model], asked[number] = output, instruction
    kept = [number for number, answers in found.items() if len(answers) == len(set(models))]
    return [asked[n] for n in kept], [[found[n][model] for n in kept] for model in models]


def paragraphs() -> list[str]:
    """Return what stands for retrieved texts: paragraphs of answers."""
    return [p.strip() for answer in pool(_PARAGRAPHS)[1][0] for p in answer.split("\n\n") if 200 < len(p) < 1500]


def instructions_injected() -> list[str]:
    """Return BIPIA's instructions of its test part."""
    query = "SELECT instruction FROM read_parquet($1) WHERE \"set\" LIKE '%test' ORDER BY ALL"
    path = str(DATA / "texts" / "bipia_injected_instructions.parquet")
    return [text for (text,) in duckdb.execute(query, [path]).fetchall()]


@dataclass
class Answers:
    """The texts of one world."""

    instructions: list[str]
    answers: list[str]
    """Of the model in force, then those of the other one, both in the order of ``instructions``."""
    documents: list[str]

    @classmethod
    def of(cls, before: str, after: str) -> Answers:
        """Read the texts of a world in which ``before`` may be swapped for ``after``."""
        instructions, (old, new) = pool(before, after)
        return cls(instructions, [*old, *new], paragraphs())

    def world(self, found: World, seed: int, *, halves: bool = False) -> World:
        """Return ``found`` with a prompt, an answer and a document in every call.

        Args:
            found: arrival times and clients.
            seed: of the order of the prompts.
            halves: whether the second half of the stream has other instructions than the first.
        """
        draws, size, count = np.random.default_rng([seed, 9]), len(found.calls), len(self.instructions)
        order = draws.permutation(count)
        middle = size // 2
        if halves:
            asked = [_again(order[: count // 2], middle, draws), _again(order[count // 2 :], size - middle, draws)]
        else:
            asked = [_again(order, size, draws)]
        text = np.concatenate(asked)
        calls = replace(found.calls, text=text, answer=text, document=draws.integers(0, len(self.documents), size))
        naming = replace(
            found.naming, texts=self.instructions, answers=self.answers, documents=[*self.documents, *self._planted()]
        )
        return replace(found, calls=self.counted(calls), naming=naming)

    def counted(self, calls: Calls) -> Calls:
        """Return ``calls`` with the tokens of their texts."""
        sizes = [
            np.array([len(t) // _CHARS_PER_TOKEN + 1 for t in texts]) for texts in (self.instructions, self.answers)
        ]
        tokens = sizes[0][calls.text] + 400  # a system prompt
        return replace(calls, input=tokens, cached=np.minimum(calls.cached, tokens), output=sizes[1][calls.answer])

    def _planted(self) -> list[str]:
        """Return a document with each of BIPIA's instructions in it: behind ``documents``."""
        draws = random.Random(9)
        return [planted(draws.choice(self.documents), each, draws) for each in instructions_injected()]

    def add(self, texts: Sequence[str]) -> Array:
        """Append answers; return their indices."""
        first = len(self.answers)
        self.answers += texts
        return np.arange(first, first + len(texts))


def _again(items: Array, size: int, draws: np.random.Generator) -> Array:
    rounds = -(-size // len(items))
    return np.concatenate([draws.permutation(items) for _ in range(rounds)])[:size].astype(np.int64)


def swap(texts: Answers, share: float | None) -> Make:
    """S1: the other model answers all calls, or those of one client with about ``share`` of the calls."""

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        mine, where = _of(world, calls, share, draws)
        changed = calls.changed(mine, answer=calls.text[mine] + len(texts.instructions))
        return Incident(texts.counted(changed), mine, where)

    return make


def constant(texts: Answers) -> Make:
    """S16: NullModel's constant answer replaces 10 % of one model's answers."""
    [number] = texts.add([pool("NullModel")[1][0][0]]).tolist()

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        model = int(draws.integers(len(MODELS)))
        mine = (calls.model == model) & (draws.random(len(calls)) < 0.1)
        provider, name = MODELS[model]
        where = frozenset({("provider", provider), ("model", name)})
        return Incident(texts.counted(calls.changed(mine, answer=number)), mine, where)

    return make


def gibberish(texts: Answers, part: float, share: float | None) -> Make:
    """S18: ``part`` of the answers of all, or of one client, become a loop, shuffled words or broken encoding."""
    draws, count = random.Random(18), len(texts.instructions)
    usual = [answer for answer in texts.answers[:count] if len(answer.split()) >= 20]
    broken = [(shuffled, looped)[n % 2](answer, draws) if n % 3 else misread(answer) for n, answer in enumerate(usual)]
    numbers = texts.add(broken)

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        of, where = _of(world, calls, share, draws)
        mine = of & (draws.random(len(calls)) < part)
        return Incident(texts.counted(calls.changed(mine, answer=draws.choice(numbers, mine.sum()))), mine, where)

    return make


def injected(texts: Answers, part: float, share: float | None) -> Make:
    """S5: ``part`` of the calls of all, or of one client, read a document with an instruction in it."""
    first, count = len(texts.documents), len(instructions_injected())

    def make(world: World, calls: Calls, draws: np.random.Generator) -> Incident:
        of, where = _of(world, calls, share, draws)
        mine = of & (draws.random(len(calls)) < part)
        return Incident(calls.changed(mine, document=first + draws.integers(0, count, mine.sum())), mine, where)

    return make


def _of(
    world: World, calls: Calls, share: float | None, draws: np.random.Generator
) -> tuple[Array, frozenset[tuple[str, str]]]:
    if share is None:
        return np.ones(len(calls), bool), frozenset()
    client = world.client_near(share, calls, draws)
    return calls.client == client, frozenset({(world.naming.dimension, world.naming.client(client))})


def swaps(texts: Answers, grade: str) -> list[Scenario]:
    """Return the scenarios of one grade of S1 and one pair of models."""
    return [Scenario(grade, STYLE, DEADLINES[grade], swap(texts, None), world="answers", lasts_min=30)]


def others(texts: Answers) -> list[Scenario]:
    """Return what is played beside S1, with the answers of any model."""
    signals: dict[str, Any] = {"world": "answers", "lasts_min": 30}
    return [
        Scenario("S1 easy, 25 % client", STYLE, 20, swap(texts, 0.25), **signals),
        Scenario("S5 injected, 3 % of all", ("surge_signal",), 15, injected(texts, 0.03, None), **signals),
        Scenario("S5 injected, 10 % of all", ("surge_signal",), 15, injected(texts, 0.1, None), **signals),
        Scenario("S5 injected, 3 % of client", ("surge_signal",), 15, injected(texts, 0.03, 0.25), **signals),
        Scenario("S16 near_duplicate on", ("surge_signal", *STYLE), 10, constant(texts), **signals),
        Scenario("S18 gibberish, 5 % of all", ("surge_signal",), 10, gibberish(texts, 0.05, None), **signals),
        Scenario("S18 gibberish, 20 % of all", ("surge_signal",), 10, gibberish(texts, 0.2, None), **signals),
        Scenario("S18 gibberish, 30 % of client", ("surge_signal",), 10, gibberish(texts, 0.3, 0.1), **signals),
    ]
