"""Events, rollups, alerts into the lake: exactly once, by the one transaction that also moves the ledger."""

from pipelines.land.adopt import adopt
from pipelines.land.config import LandConfig
from pipelines.land.stage import run
from pipelines.land.usage import Usage

__all__ = ["LandConfig", "Usage", "adopt", "run"]
