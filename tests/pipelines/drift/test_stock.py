"""A stock of prompts that come again and again, and a second one of the same kind: nothing has drifted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from pipelines.drift.partition import Partition
from pipelines.drift.points import Point
from pipelines.drift.regions import Reference, build, learn_witness
from pipelines.drift.topic_bets import Batch, TestConfig, start
from pipelines.drift.topic_bets import judge as judge_block
from pipelines.drift.watch import Watch, WatchConfig
from schemas.alerts import Alert
from tests.pipelines.drift.test_style_watch import answers

Make = Callable[..., list[Point]]
SIZE, TOPICS = 150, {t: 1.0 for t in range(8)}


def of_stock(stock: Sequence[Point], count: int, start: int, seed: int = 1) -> list[Point]:
    """``count`` calls from number ``start`` on that each draw one of ``stock``."""
    draws = np.random.default_rng([seed, start])
    found = []
    for i, k in enumerate(draws.integers(0, len(stock), count).tolist(), start):
        ts = 1_790_000_000_000_000 + int(i / 0.6 * 1e6)
        found.append(
            replace(stock[k], call_id=f"call-{i}", ts=ts, wall=ts, user=f"u{i % 60}", text=f"text {stock[k].offset}")
        )
    return found


def judged(prompts: Sequence[Point], said: Sequence[Point]) -> list[Alert]:
    partition = Partition(0, WatchConfig())
    return [a for pair in zip(prompts, said, strict=True) for a in partition.apply(pair, 0, 0) if a.state == "firing"]


@pytest.fixture
def stock(texts: Make) -> list[Point]:
    return texts(3, TOPICS, 4 * SIZE)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_stock_of_prompts_on_the_same_topics_is_no_drift(texts: Make, seed: int) -> None:
    stock = texts(30 + seed, TOPICS, 2 * SIZE)
    prompts = [*of_stock(stock[:SIZE], 900, 0, seed), *of_stock(stock[SIZE:], 2000, 900, seed)]
    watch = Watch("bot", "input", WatchConfig())
    assert [a.title for a in watch.step(prompts)] == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_answers_to_the_same_prompts_are_no_further_evidence(stock: list[Point], seed: int) -> None:
    pairs = list(zip(stock, answers(40 + seed, 4 * SIZE), strict=True))
    halves = pairs[: 2 * SIZE], pairs[2 * SIZE :]
    drawn = [of_stock([p for p, _ in half], 1500, start, seed) for half, start in zip(halves, (0, 1500), strict=True)]
    by_text = {f"text {p.offset}": a for p, a in pairs}
    prompts = [p for half in drawn for p in half]
    said = [replace(by_text[p.text], call_id=p.call_id, ts=p.ts, wall=p.wall, user=p.user) for p in prompts]
    assert [a.title for a in judged(prompts, said) if a.rule == "output_drift"] == []


def test_other_answers_to_the_same_stock_are_found(stock: list[Point]) -> None:
    before, after = answers(50, 4 * SIZE), answers(51, 4 * SIZE, bullets=0.8)
    prompts = of_stock(stock, 2000, 0)
    said = []
    for i, p in enumerate(prompts):
        answer = (before if i < 1400 else after)[int(p.text.split()[1])]
        said.append(replace(answer, call_id=p.call_id, ts=p.ts, wall=p.wall, user=p.user))
    [alert] = judged(prompts, said)
    assert alert.rule == "output_drift"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_stock_of_which_the_rare_answers_are_of_another_style_has_not_changed(stock: list[Point], seed: int) -> None:
    """Were answers that come again left out, the rare ones would become more."""
    usual, rare = answers(60 + seed, 60), answers(70 + seed, 4 * SIZE, bullets=0.8)
    draws, texts = np.random.default_rng(seed), [*usual, *rare][: 4 * SIZE]
    weights = 1 / np.arange(1, len(texts) + 1)
    said = []
    for i, k in enumerate(draws.choice(len(texts), 2500, p=weights / weights.sum()).tolist()):
        ts = 1_790_000_000_000_000 + int(i / 0.6 * 1e6)
        said.append((k, replace(texts[k], call_id=f"call-{i}", ts=ts, wall=ts, user=f"u{i % 60}")))
    prompts = [
        replace(stock[k], call_id=p.call_id, ts=p.ts, wall=p.wall, user=p.user, text=f"text {k}") for k, p in said
    ]
    assert [a.title for a in judged(prompts, [p for _, p in said]) if a.rule == "output_drift"] == []


def test_equal_texts_are_in_one_half_of_the_reference() -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[15] = vectors[2]
    none = np.zeros(30, np.int64)
    reference = Reference(vectors, none, none, none - 1)
    assert reference.same.tolist() == [*range(15), 2, *range(16, 30)]
    assert reference.half.tolist() == [0] * 10 + [1] * 5 + [0] + [1] * 4 + [0] * 10


def test_a_direction_is_not_judged_by_the_texts_that_it_was_learned_from() -> None:
    """The bets on a block are those of a direction that never saw the block's texts."""
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(160, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    none = np.zeros(100, np.int64)
    reference = Reference(vectors[:100], none, none, none - 1)
    config, regions = TestConfig(clusters=4), build(reference, 4)
    block = Batch(vectors[100:105], none[:5], none[:5])
    seen = Batch(vectors[100:160], none[:60], none[:60])
    unseen = Batch(vectors[105:160], none[:55], none[:55])
    capitals = start(regions)
    one, other = (judge_block(config, reference, regions, capitals, recent, block) for recent in (seen, unseen))
    np.testing.assert_array_equal(one, other)
    assert learn_witness(reference, vectors[100:160], none[:60]).directions.shape == (2, 16)
