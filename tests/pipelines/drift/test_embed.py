from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipelines.drift.embed import EmbedConfig, EmbedderUnavailableError, Memory, ModelProcess
from pipelines.drift.vectors import Floats, quantise, restore


@pytest.fixture(scope="module")
def model() -> Iterator[ModelProcess]:
    process = ModelProcess(EmbedConfig())
    yield process
    process.close()


def test_the_shipped_model_embeds_offline(model: ModelProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that leads nowhere: whatever asked for the network would fail."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    vectors = model.encode(["How do I reset my password?", "I forgot my password", "Boil the pasta for ten minutes"])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_quantising_keeps_the_direction(model: ModelProcess) -> None:
    vectors = model.encode([f"question {i} about topic {i % 7}" for i in range(40)])
    again = restore(*quantise(vectors))
    assert np.einsum("ij,ij->i", vectors, again).min() > 0.999


@pytest.mark.row(66)
def test_a_late_model_is_unavailable_and_the_next_call_begins_anew() -> None:
    late = ModelProcess(EmbedConfig(load_deadline_s=0.05))
    with pytest.raises(EmbedderUnavailableError, match=r"loading the model took over 0\.05 s"):
        late.encode(["hello"])
    assert late._process is None
    with pytest.raises(EmbedderUnavailableError):
        late.encode(["hello"])
    late.close()


@pytest.mark.row(66)
def test_a_missing_model_says_so(tmp_path: Path) -> None:
    missing = ModelProcess(EmbedConfig(model=str(tmp_path / "no-such-model")))
    with pytest.raises(EmbedderUnavailableError, match="other detectors go on"):
        missing.encode(["hello"])
    missing.close()


class Counting:
    """An embedder that counts."""

    model = "counting"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Floats:
        self.seen += texts
        return np.stack([np.eye(4, dtype=np.float32)[len(t) % 4] for t in texts])

    def close(self) -> None:
        pass


def test_a_text_is_embedded_once() -> None:
    counting = Counting()
    memory = Memory(counting, size=2)
    first, _ = memory.quantised(["a", "bb", "a"])
    assert counting.seen == ["a", "bb"]
    again, scales = memory.quantised(["bb", "a"])
    assert counting.seen == ["a", "bb"]
    assert (again == first[[1, 0]]).all()
    assert len(scales) == 2
    memory.quantised(["ccc", "dddd"])
    memory.quantised(["a"])
    assert counting.seen == ["a", "bb", "ccc", "dddd", "a"]
