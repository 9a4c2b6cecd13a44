from __future__ import annotations

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from pipelines.drift.points import EmbeddingUnreadableError, Message, Point, decode, encode
from pipelines.drift.vectors import quantise
from schemas.rollups import EMBEDDING, Sample


def sample(i: int) -> Sample:
    return Sample(f"c{i}", "bot", "input", f"Why, no {i}?", 1_790_000_000_000_000 + i, 0, i, feature="f" if i else None)


def test_what_is_written_comes_back() -> None:
    vectors, scales = quantise(np.random.default_rng(1).normal(size=(3, 384)).astype(np.float32))
    samples = [sample(i) for i in range(3)]
    points = [Point.of(s, 7, vectors[i], float(scales[i])) for i, s in enumerate(samples)]
    message = encode(points, samples, model="m", span=(10, 14))
    assert decode(message, 0) == (points, (10, 14))
    table = pa.ipc.open_stream(message.value).read_all()
    assert table.schema == EMBEDDING
    assert table["words"].to_pylist() == [3, 3, 3]
    assert {f["name"] for f in table["features"][0].as_py()} >= {"length", "questions", "digits"}


def test_what_another_wrote_is_refused_with_its_offset() -> None:
    with pytest.raises(EmbeddingUnreadableError, match="offset 12"):
        decode(Message(b"junk", {"samples": b"0/1", "context": msgspec.json.encode([])}), 12)
    with pytest.raises(EmbeddingUnreadableError):
        decode(Message(b"", {}), 3)
