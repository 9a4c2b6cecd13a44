"""How a run of evals samples calls, which days it covers, and its id. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import msgspec

from jobs.evals.case import NOTHING_EXPECTED, Expectation


@dataclass(frozen=True)
class EvalSettings:
    """How calls are sampled, and what is expected of them."""

    size: int = 2000
    """Calls to draw from a window."""
    floor: int = 30
    """Calls of each stratum, as far as ``size`` allows: fewer have no mean."""
    seed: int = 1
    apps: tuple[str, ...] = ()
    """Only these; empty: all but the judge."""
    envs: tuple[str, ...] = ()
    """Only these; empty: calls that name none, and all but ``NOT_PRODUCTION``; ``*``: all."""
    expect: Callable[[Mapping[str, Any]], Expectation] = field(default=lambda row: NOTHING_EXPECTED, compare=False)
    """From a call to what its answer must be."""

    def digest(self) -> str:
        """Return 8 hex digits of the settings that decide the sample."""
        values = [self.size, self.floor, self.seed, sorted(self.apps), sorted(self.envs)]
        return hashlib.sha256(msgspec.json.encode(values)).hexdigest()[:8]


def week_before(at: int) -> tuple[date, date]:
    """Return Monday and Sunday of the last whole ISO week (UTC) before ``at``, µs UTC."""
    today = date(1970, 1, 1) + timedelta(microseconds=at)
    monday = today - timedelta(days=today.weekday() + 7)
    return monday, monday + timedelta(days=6)


def run_name(since: date, until: date, settings: EvalSettings) -> str:
    """Return the id of the run over these days with these settings: the same when it is started again."""
    return f"{since}_{until}_{settings.digest()}"
