"""What a log line looks like: JSON unless a person watches. Secrets that are known are never printed."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, MutableMapping
from typing import Any

import structlog

_HIDDEN = "***"
_NUMBER = re.compile(r"\d+")
_REPEAT_S = 10.0
_KINDS = 500


class _Stderr:
    """Writes to the stderr of the moment: a logger that is cached outlives one that was replaced and closed."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


_STDERR: Any = _Stderr()


def configure(*, stage: str, secrets: Iterable[str] = (), level: str = "INFO") -> None:
    """Set up structlog and the standard library's logging on stderr.

    Args:
        stage: bound to every line.
        secrets: values that are replaced in every line.
        level: least level that is printed.
    """
    known = sorted({s for s in secrets if len(s) >= 6}, key=len, reverse=True)

    def hide(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {k: hidden(v, known) for k, v in event.items()} if known else event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        hide,
    ]
    final: Any = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, final],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level)),
        logger_factory=structlog.PrintLoggerFactory(_STDERR),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(stage=stage)
    handler = logging.StreamHandler(_STDERR)
    handler.addFilter(_RepeatFilter())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, final]
        )
    )
    libraries = max(logging.WARNING, getattr(logging, level))  # their INFO is not for operators
    logging.basicConfig(level=libraries, handlers=[handler], force=True)


class _RepeatFilter(logging.Filter):
    """Passes one log line of a library in ten seconds, of the lines that differ in their numbers only.

    librdkafka logs a broker that is down 50 times a second, once for every address and attempt.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._printed: dict[tuple[str, int, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # a broken format string of the library: the handler reports it
            return True
        if record.exc_info:
            return True
        alike = record.name, record.levelno, hash(_NUMBER.sub("", text))
        at, held_back = self._printed.get(alike, (-_REPEAT_S, 0))
        if (now := self._now()) - at < _REPEAT_S:
            self._printed[alike] = at, held_back + 1
            return False
        if len(self._printed) >= _KINDS:
            self._printed.clear()
        self._printed[alike] = now, 0
        if held_back:
            record.msg, record.args = f"{text} ({held_back} like it held back)", ()
        return True


def hidden(value: Any, known: list[str]) -> Any:
    """Return ``value`` with *** in place of the ``known`` secrets, at any depth."""
    if isinstance(value, str):
        for secret in known:
            value = value.replace(secret, _HIDDEN)
    elif isinstance(value, dict):
        return {k: hidden(v, known) for k, v in value.items()}
    elif isinstance(value, list | tuple):
        return [hidden(v, known) for v in value]
    return value
