"""The embedding model of the product, for scorers: loaded at the first text, shared, with a cache of vectors."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from cachetools import LRUCache

from pipelines.drift.embed import WIDTH, EmbedConfig, Embedder, ModelProcess
from pipelines.drift.vectors import Floats

_REMEMBERED = 20_000
"""Vectors, 1.5 kB each: questions and chunks occur many times."""
_DEADLINE_S = 600.0
"""For one batch, and for loading: generous, because no person waits for the job and a busy machine takes minutes."""
_BATCH = 16
"""Texts that are padded to one length; 16 are as fast as 32 once the texts are sorted, in 100 MiB less."""


class Embedding:
    """Texts to unit vectors. The model's process starts at the first text and ends with this process."""

    def __init__(
        self, config: EmbedConfig | None = None, *, make: Callable[[EmbedConfig], Embedder] = ModelProcess
    ) -> None:
        given = config or EmbedConfig()
        # all cores: the job runs once a week, and the model's process has a low priority
        threads = given.threads or os.cpu_count() or 1
        self.config = replace(given, threads=threads, batch=_BATCH, deadline_s=_DEADLINE_S, load_deadline_s=_DEADLINE_S)
        self.model = self.config.model.rstrip("/").rpartition("/")[2] or "all-MiniLM-L6-v2"
        self._make = make
        self._embedder: Embedder | None = None
        self._known: LRUCache[str, Floats] = LRUCache(_REMEMBERED)
        self._lock = threading.Lock()

    def vectors(self, texts: Sequence[str]) -> Floats:
        """Return (n, 384) float32, unit norm; a text longer than the model's limit is cut.

        Raises:
            EmbedderUnavailableError: the model is missing, late or has ended; run again.
        """
        if not texts:
            return np.empty((0, WIDTH), np.float32)
        with self._lock:
            missing = [text for text in dict.fromkeys(texts) if text not in self._known]
            found = {text: self._known[text] for text in texts if text in self._known}
            if missing:
                found |= dict(zip(missing, self._encode(missing), strict=True))
            self._known.update(found)
        return np.stack([found[text] for text in texts])

    def close(self) -> None:
        """End the model's process."""
        embedder, self._embedder = self._embedder, None
        if embedder is not None:
            atexit.unregister(self.close)
            embedder.close()

    def _encode(self, texts: Sequence[str]) -> Floats:
        if self._embedder is None:
            self._embedder = self._make(self.config)
            atexit.register(self.close)
        # texts of similar length together: a batch is padded to its longest text (37 against 26 texts a CPU second)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        # a text that is no valid Unicode cannot be encoded
        found = self._embedder.encode([texts[i].encode("utf-8", "replace").decode() for i in order])
        vectors = np.empty_like(found)
        vectors[order] = found
        return vectors
