"""A cross-encoder for scorers: a model of entailment in a separate process, loaded at the first pair."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from jobs.evals.scorers.cross_worker import Pairs
from pipelines.drift.embed import EmbedConfig, EmbedderUnavailableError, ModelProcess
from pipelines.drift.vectors import Floats
from schemas.errors import RetryableError, SettingsError

_DEADLINE_S = 600.0
"""For one batch, and for loading: generous, because no person waits for the job."""
_BATCH = 16
_FRAME = 256
"""Pairs of one request to the process."""


class ModelUnavailableError(RetryableError):
    """The model cannot be loaded, is late or has ended; the scores that need it are errors, and are tried again."""

    def __init__(self, model: str, cause: str) -> None:
        self.model, self.cause = model, cause
        super().__init__(f"cannot use the model {model}: {cause}; nothing is downloaded: see evals.nli_model")


class _Process(ModelProcess):
    """The process of ``cross_worker``."""

    worker: ClassVar[str] = "jobs.evals.scorers.cross_worker"


class CrossEncoder:
    """Pairs of texts to the support of the second by the first, 0..1."""

    def __init__(self, model: str, *, threads: int = 0) -> None:
        """Take the model: a folder, or a name in the local cache of Hugging Face.

        Raises:
            SettingsError: it is a path, and no model is there.
        """
        is_path = model.startswith((os.sep, ".", "~"))
        if is_path and not Path(model, "config.json").is_file():
            raise SettingsError("evals.nli_model", f"no model is in {model}", "name the folder of a cross-encoder")
        cores = threads or os.cpu_count() or 1
        self._config = EmbedConfig(
            model, threads=cores, batch=_BATCH, deadline_s=_DEADLINE_S, load_deadline_s=_DEADLINE_S
        )
        self.model = os.path.basename(model.rstrip("/"))
        self._process: _Process | None = None
        self._lock = threading.Lock()

    def support(self, pairs: Sequence[tuple[str, str]]) -> Floats:
        """Return (n,) how far the first text of each pair supports the second.

        Raises:
            ModelUnavailableError: the model cannot be loaded, is late or has ended.
        """
        with self._lock:
            if self._process is None:
                self._process = _Process(self._config)
                atexit.register(self.close)
            clean = [tuple(text.encode("utf-8", "replace").decode() for text in pair) for pair in pairs]
            parts = [self._asked(clean[start : start + _FRAME]) for start in range(0, len(clean), _FRAME)]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def close(self) -> None:
        """End the model's process."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.close)
            process.close()

    def _asked(self, pairs: Sequence[tuple[str, ...]]) -> Floats:
        assert self._process is not None
        frame = Pairs([source for source, _ in pairs], [claim for _, claim in pairs])
        try:
            answer = self._process.ask(frame, f"{len(pairs)} pairs of texts")
        except EmbedderUnavailableError as error:
            raise ModelUnavailableError(self._config.model, " ".join(error.cause.split())[:300]) from error
        return np.frombuffer(answer.vectors, dtype=np.float32)
