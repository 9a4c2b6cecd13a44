"""The configuration of drift."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pipelines.drift.embed import EmbedConfig
from pipelines.drift.points import SIDES
from pipelines.drift.watch import WatchConfig
from pipelines.kafka import KafkaConfig
from pipelines.liveness import StallTimeouts


@dataclass(frozen=True)
class DriftConfig:
    """The configuration of the stage."""

    kafka: KafkaConfig
    data_dir: Path
    """Faust's own folder."""
    slot: str = "0"
    """Which copy this is."""
    sides: tuple[str, ...] = SIDES
    """What is judged: input and query by a vector of the model, output by its style."""
    watch: WatchConfig = field(default_factory=WatchConfig)
    embed: EmbedConfig = field(default_factory=EmbedConfig)
    batch_texts: int = 64
    batch_wait_s: float = 0.25
    checkpoint_texts: int = 1_000
    """Texts of a partition between two checkpoints: after a crash at most as many are judged again (1 ms each)."""
    retry_s: float = 5.0
    """How long the model is left alone after it failed."""
    stall_timeouts: StallTimeouts = field(default_factory=StallTimeouts)
