"""The configuration of one land process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.decode import Redaction
from pipelines.kafka import KafkaConfig
from pipelines.kafka.stall_detector import STALL_S
from warehouse.storage.connect import LakeConfig


@dataclass(frozen=True)
class LandConfig:
    """Plain arguments; the command line makes it from the settings."""

    kafka: KafkaConfig
    lake: LakeConfig
    batch_rows: int = 50_000
    batch_bytes: int = 64 << 20
    batch_wait_s: float = 1.0
    """A commit costs 40 to 60 ms, so batches are gathered for this long."""
    group: str | None = "land"
    """Group whose committed offsets lag monitors read; nothing is read back from it. None: no commits."""
    dead_ratio_limit: float = 0.5
    """Above this share of bad events llm.events stops landing; at 1.0 all events land."""
    dead_window: int = 200
    """Consecutive events that the share is taken over, at least."""
    check_every_s: float = 60.0
    """How often topic ids, new partitions and stalled partitions are checked."""
    stalled_s: float = STALL_S
    """A partition with records to read that does not move for longer makes land start over."""
    copy_name: str = ""
    """Unique among the running copies, which share the partitions; they need a catalog on PostgreSQL. Empty: the only
    one, which lands all of them."""
    rules: Redaction = field(default_factory=Redaction)
    price_overrides: Sequence[Mapping[str, object]] = ()
    cost_preference: str = "computed"
    """Which cost counts where a call has two: computed or reported."""
    alerts: bool = True
    """Whether gaps and an open breaker raise alerts on llm.alerts."""
