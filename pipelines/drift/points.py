"""One embedded text, as the drift test sees it and as ``llm.embeddings`` carries it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pyarrow as pa

from pipelines.drift import style
from pipelines.drift.features import FEATURES, measure
from pipelines.drift.vectors import Bytes, Floats, restore
from schemas.errors import UNREADABLE, PoisonError
from schemas.rollups import EMBEDDING, Sample

H_SAMPLES = "samples"
"""Header of a message on llm.embeddings: "from/next", the span of its partition of llm.samples it covers."""
H_CONTEXT = "context"
"""Header: JSON, per row what the lake does not keep and the test needs: [tenant, user, rate, kafka time in us]."""
KEPT_CHARS = 500
SIDES = ("input", "output")
"""What is judged by default."""
ANSWERS = "output"
"""The side that is judged by its style (``style``); the others by vectors of a model."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """An embedded text and where it came from. Times are us UTC."""

    call_id: str
    app: str
    side: str
    feature: str | None
    tenant: str | None
    user: str | None
    ts: int
    wall: int
    """LogAppendTime of its sample: the wall clock of every decision."""
    partition: int
    offset: int
    rate: float
    vector: bytes
    scale: float
    text: str

    @staticmethod
    def of(sample: Sample, wall: int, vector: Bytes, scale: float) -> Point:
        """Join a sample and its vector, or the style of an answer: of that no text is kept."""
        return Point(
            sample.call_id,
            sample.app,
            sample.side,
            sample.feature,
            sample.tenant,
            sample.user,
            sample.ts,
            wall,
            sample.partition,
            sample.offset,
            sample.rate,
            vector.tobytes(),
            float(scale),
            "" if sample.side == ANSWERS else sample.text[:KEPT_CHARS],
        )

    def unit(self) -> Floats:
        """Its vector, (d,) float32 of norm 1."""
        out: Floats = restore(np.frombuffer(self.vector, dtype=np.int8)[None, :], np.array([self.scale], np.float32))[0]
        return out


def to_embed(samples: Sequence[Sample]) -> list[str]:
    """Return the texts that the model is needed for: all but answers."""
    return [sample.text for sample in samples if sample.side != ANSWERS]


def join(samples: Sequence[Sample], walls: Sequence[int], vectors: Bytes, scales: Floats) -> list[Point]:
    """Join ``samples`` with the vectors of ``to_embed``, (n, d) int8 with (n,) scales, and with the styles of answers.

    Args:
        samples: in order.
        walls: LogAppendTime of each, µs UTC.
        vectors: of the texts that the model is needed for, in order.
        scales: of each of ``vectors``.
    """
    styles, one = style.styles([sample.text for sample in samples if sample.side == ANSWERS])
    embedded, styled = zip(vectors, scales.tolist(), strict=True), zip(styles, one.tolist(), strict=True)
    return [
        Point.of(sample, wall, *next(styled if sample.side == ANSWERS else embedded))
        for sample, wall in zip(samples, walls, strict=True)
    ]


class EmbeddingUnreadableError(PoisonError):
    """A message on llm.embeddings that this version did not write."""

    def __init__(self, offset: int, cause: str) -> None:
        self.offset = offset
        super().__init__(f"cannot read llm.embeddings at offset {offset}: {cause}; it is left out of the drift state")


def encode(points: Sequence[Point], samples: Sequence[Sample], *, model: str, span: tuple[int, int]) -> Message:
    """Write ``points`` as one message of llm.embeddings.

    Args:
        points: in the order of llm.samples.
        samples: the same rows as they came, for the features of the whole text.
        model: name of the embedding model; rows of answers name ``style.MODEL``.
        span: first offset covered and next offset, of the partition of llm.samples.
    """
    names = list(FEATURES)
    rows = [
        {
            "call_id": p.call_id,
            "app": p.app,
            "feature": p.feature,
            "model": s.model,
            "side": p.side,
            "ts": p.ts,
            "source_partition": p.partition,
            "source_offset": p.offset,
            "embedding_model": style.MODEL if p.side == ANSWERS else model,
            "scale": p.scale,
            "vector": np.frombuffer(p.vector, dtype=np.int8),
            "chars": len(s.text),
            "words": len(s.text.split()),
            "features": [{"name": n, "value": v} for n, v in zip(names, measure(s.text), strict=True)],
            "text": p.text,
        }
        for p, s in zip(points, samples, strict=True)
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, EMBEDDING) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=EMBEDDING))
    context = [[p.tenant, p.user, p.rate, p.wall] for p in points]
    headers = {H_SAMPLES: f"{span[0]}/{span[1]}".encode(), H_CONTEXT: msgspec.json.encode(context)}
    return Message(sink.getvalue().to_pybytes(), headers)


class Message(msgspec.Struct, frozen=True):
    """A value and its headers."""

    value: bytes
    headers: dict[str, bytes]


def decode(message: Message, offset: int) -> tuple[list[Point], tuple[int, int]]:
    """Inverse of ``encode``: the points and their span of llm.samples.

    Raises:
        EmbeddingUnreadableError: not one of ours; the caller counts and skips it.
    """
    try:
        start, end = (int(part) for part in message.headers[H_SAMPLES].split(b"/"))
        context = msgspec.json.decode(message.headers[H_CONTEXT], type=list[tuple[str | None, str | None, float, int]])
        with pa.ipc.open_stream(message.value) as reader:
            table = reader.read_all().cast(EMBEDDING)
    except (pa.ArrowException, *UNREADABLE) as error:
        raise EmbeddingUnreadableError(offset, str(error)) from error
    times = table["ts"].cast(pa.int64()).to_pylist()
    rows = table.select(["call_id", "app", "side", "feature", "source_partition", "source_offset", "scale", "text"])
    points = [
        Point(
            row["call_id"],
            row["app"],
            row["side"],
            row["feature"],
            tenant,
            user,
            ts,
            wall,
            row["source_partition"],
            row["source_offset"],
            rate,
            vector.values.to_numpy().astype(np.int8).tobytes(),
            row["scale"],
            row["text"],
        )
        for row, ts, vector, (tenant, user, rate, wall) in zip(
            rows.to_pylist(), times, table["vector"], context, strict=True
        )
    ]
    return points, (start, end)
