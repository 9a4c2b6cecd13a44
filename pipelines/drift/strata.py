"""What is normal, feature by feature: a bounded sample of past texts, spread over up to a day."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from pipelines.drift.clusters import matrix
from pipelines.drift.points import Point
from pipelines.drift.regions import Ints, Reference
from pipelines.drift.vectors import restore

OTHER = "\0other"
"""Features beyond the limit share this stratum; no feature can have the name."""
SECOND = 1_000_000


@dataclass(frozen=True)
class ReferenceConfig:
    """How the reference is kept."""

    size: int = 300
    """Texts a feature."""
    least: int = 80
    """Texts a feature must have before it is judged."""
    horizon_s: float = 86_400.0
    """The reference is spread over this much of the past, or over all of it while it is shorter."""
    delay: int = 120
    """Texts of a feature that pass before one of them may enter: a shift is found before it becomes normal."""
    features: int = 12
    """Features tracked an app; the others share one stratum."""


class Stratum(msgspec.Struct):
    """The reference of one feature."""

    name: str
    texts: list[Point] = []
    waiting: list[Point] = []
    """Judged and not yet old enough to be normal."""
    first: int = 0
    """Event time of the first text, µs UTC."""
    incoming: list[Point] = []
    """Old enough; they replace the oldest when the tests are rebuilt."""
    admitted: int = 0
    """Event time of the last text that came in through the delay."""


def ready(stratum: Stratum, config: ReferenceConfig) -> bool:
    """Whether there is enough to compare with."""
    return len(stratum.texts) >= config.least


def learn(stratum: Stratum, point: Point) -> None:
    """Take a text in at once: while the reference is too small to judge."""
    stratum.first = min(stratum.first or point.ts, point.ts)
    stratum.admitted = max(stratum.admitted, point.ts)
    stratum.texts.append(point)


def wait(stratum: Stratum, point: Point, config: ReferenceConfig, *, held: bool) -> None:
    """Queue a judged text, and admit the one whose time has come, unless admission is ``held`` (an alarm is near)."""
    stratum.waiting.append(point)
    if len(stratum.waiting) <= config.delay:
        return
    oldest = stratum.waiting.pop(0)
    full = len(stratum.texts) + len(stratum.incoming) >= config.size
    age_s = min(config.horizon_s, max(oldest.ts - stratum.first, 0) / SECOND)
    if held or (full and oldest.ts - stratum.admitted < age_s / config.size * SECOND):
        return
    stratum.incoming = [*stratum.incoming, oldest][-config.size :]
    stratum.admitted = max(stratum.admitted, oldest.ts)


def renew(stratum: Stratum, config: ReferenceConfig) -> None:
    """Let what is old enough become normal."""
    stratum.texts = [*stratum.texts, *stratum.incoming][-config.size :]
    stratum.incoming = []


def combine(strata: Sequence[Stratum]) -> tuple[Reference, list[Point]]:
    """Put the references of ``strata`` (not empty) together; stratum i of the result is ``strata[i]``."""
    points = [p for s in strata for p in s.texts]
    index = np.repeat(np.arange(len(strata)), [len(s.texts) for s in strata])
    vectors = restore(matrix(points), np.array([p.scale for p in points], dtype=np.float32))
    tenants = group_ids(points, index)
    users = {u: i for i, u in enumerate(sorted({p.user for p in points if p.user is not None}))}
    owners = np.array([users[p.user] if p.user is not None else -1 for p in points], dtype=np.int64)
    return Reference(vectors, index.astype(np.int64), tenants, owners), points


def group_ids(points: Sequence[Point], strata: Ints) -> Ints:
    """An id per (stratum, tenant), the same in every batch: drawn from the text itself."""
    return np.array([group_id(p.tenant, int(s)) for p, s in zip(points, strata, strict=True)], dtype=np.int64)


def group_id(tenant: str | None, stratum: int) -> int:
    """Id of a tenant within a stratum; texts without a tenant form one group."""
    digest = int.from_bytes(hash_bytes(tenant or ""), "big") >> 9
    return (digest << 8 | stratum) & 0x7FFFFFFFFFFFFFFF


def hash_bytes(text: str) -> bytes:
    """8 bytes that depend on ``text`` alone (Python's own hash differs from process to process)."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
