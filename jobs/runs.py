"""job_runs: records of every run on llm.log, which land writes into the lake."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import structlog

from pipelines.kafka import KafkaConfig, Producer
from schemas.alerts import LogRecord
from schemas.errors import RetryableError
from schemas.topics import LOG
from warehouse.claims import Claim

log = structlog.get_logger()
State = Literal["started", "done", "failed", "skipped"]
_FLUSH_S = 2.0
_AGAIN_S = 10.0
_MOST = 1000
"""Records kept while the brokers are away: ten days of two hourly jobs, two records a run."""


class RunLog:
    """Writes records, and keeps what could not be written. For many threads."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._lock = threading.Lock()
        self._unsent: deque[bytes] = deque(maxlen=_MOST)
        self._not_before = 0.0
        self.emitted: dict[str, int] = dict.fromkeys(("started", "done", "failed", "skipped"), 0)
        """State -> how many of this process."""
        self.last: dict[str, str] = {}
        """Job -> state of its last run that ended in this process."""

    def emit(
        self, claim: Claim, state: State, at: int, *, detail: str = "", report: dict[str, Any] | None = None
    ) -> None:
        """Record that the run of ``claim`` is in ``state`` since ``at`` (µs UTC)."""
        row = {
            "id": uuid.uuid4().hex,
            "job": claim.job,
            "due_at": _text(claim.due_at),
            "started_at": None if state == "skipped" else _text(claim.claimed_at),
            "ended_at": None if state == "started" else _text(at),
            "state": state,
            "detail": detail,
            "attempt": claim.attempt,
            "owner": claim.owner,
            **({"report": report} if report else {}),
        }
        log.info(f"job_{state}", job=claim.job, due_at=row["due_at"], attempt=claim.attempt, detail=detail)
        with self._lock:
            self.emitted[state] += 1
            if state in ("done", "failed"):
                self.last[claim.job] = state
            self._unsent.append(msgspec.json.encode(LogRecord(table="job_runs", at=at, row=row)))
        self.flush()

    def flush(self) -> None:
        """Write what is not written yet; where the brokers do not answer it stays for the next time.

        What was written though no answer came is written again: the view ``job_runs`` shows each id once.
        """
        with self._lock:
            if not self._unsent or time.monotonic() < self._not_before:
                return
            producer = Producer(self._kafka)
            try:
                for value in self._unsent:
                    producer.send(LOG, value)
                producer.flush(_FLUSH_S)
            except RetryableError as error:
                self._not_before = time.monotonic() + _AGAIN_S
                log.warning("job_runs_kept_back", records=len(self._unsent), cause=str(error))
            else:
                self._unsent.clear()
            finally:
                producer.close(0.0)


def _text(at: int) -> str:
    return datetime.fromtimestamp(at / 1e6, UTC).isoformat()
