"""Texts without a model: topics are directions on the sphere, a text lies near one of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipelines.drift.points import Point
from pipelines.drift.vectors import quantise

WIDTH = 384
Make = Callable[..., list[Point]]

_TOPICS = np.random.default_rng(5).normal(size=(24, WIDTH))
_TOPICS /= np.linalg.norm(_TOPICS, axis=1, keepdims=True)


def vector(topic: int, rng: np.random.Generator) -> np.ndarray:
    """A text of ``topic``: cosine of about 0.6 to its neighbours, as real texts of one topic have."""
    noise = rng.normal(size=WIDTH) / np.sqrt(WIDTH)
    raw = 0.78 * _TOPICS[topic] + 0.63 * noise
    return raw / np.linalg.norm(raw)


def make(
    seed: int,
    shares: dict[int, float],
    count: int,
    *,
    start: int = 0,
    feature: str | None = None,
    tenant: str | None = None,
    users: int = 60,
    stay: float = 0.0,
    rate: float = 0.6,
) -> list[Point]:
    """``count`` texts with topics drawn from ``shares``; with ``stay`` a text keeps the topic of the one before."""
    rng = np.random.default_rng([seed, start])
    topics, weights = list(shares), np.array(list(shares.values()))
    chosen = topics[0]
    out = []
    for i in range(start, start + count):
        if i == start or rng.random() >= stay:
            chosen = int(rng.choice(topics, p=weights / weights.sum()))
        q, scale = quantise(vector(chosen, rng)[None, :].astype(np.float32))
        user = f"u{rng.integers(users)}" if users else None
        ts = 1_790_000_000_000_000 + int(i / rate * 1e6)
        out.append(
            Point(
                f"call-{i}",
                "bot",
                "input",
                feature,
                tenant,
                user,
                ts,
                ts + 400_000,
                i % 2,
                i // 2,
                1.0,
                q[0].tobytes(),
                float(scale[0]),
                f"topic {chosen}, text {i}",
            )
        )
    return out


@pytest.fixture
def texts() -> Make:
    return make
