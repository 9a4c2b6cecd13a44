"""What apps install: publishes one event per LLM call to Kafka, never slower, never broken by it.

``from tailrace_emitter import Emitter``, or the functions below on one default emitter made from the environment.
"""

import threading
from typing import Any, Callable, Dict, Optional

from tailrace_emitter.context import context
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.span import Span, current

__all__ = [
    "Emitter",
    "Span",
    "call",
    "configure",
    "context",
    "current",
    "default",
    "eval",
    "feedback",
    "flush",
    "instrument",
    "observe",
    "pseudonym",
    "span",
    "stats",
    "uninstrument",
]
__version__ = "0.1.0"

_lock = threading.RLock()
_default: Optional[Emitter] = None


def default() -> Emitter:
    """The emitter of this process, made from the environment when first asked for."""
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                _default = Emitter()
    return _default


def configure(**settings: Any) -> Emitter:
    """Make the default emitter with ``settings`` of ``Emitter``; a former one is flushed and closed."""
    global _default
    with _lock:
        old, _default = _default, Emitter(**settings)
    if old is not None:
        old.close()
    return _default


def call(model: Optional[str] = None, **fields: Any) -> str:
    """``Emitter.call`` of the default emitter."""
    return default().call(model, **fields)


def span(model: Optional[str] = None, **fields: Any) -> Span:
    """``Emitter.span`` of the default emitter."""
    return default().span(model, **fields)


def observe(function: Any = None, **fields: Any) -> Any:
    """``Emitter.observe`` of the default emitter, which is made when the function is first called."""
    from tailrace_emitter.span import observed

    def wrap(inner: Callable[..., Any]) -> Callable[..., Any]:
        fields.setdefault("feature", getattr(inner, "__name__", None))
        return observed(lambda: default().span(**fields), inner)

    return wrap if function is None else wrap(function)


def feedback(call_id: Optional[str] = None, **fields: Any) -> str:
    """``Emitter.feedback`` of the default emitter."""
    return default().feedback(call_id, **fields)


def eval(name: Optional[str] = None, **fields: Any) -> str:
    """``Emitter.eval`` of the default emitter."""
    return default().eval(name, **fields)


def flush(timeout: float = 2.0) -> int:
    """``Emitter.flush`` of the default emitter."""
    return default().flush(timeout)


def stats() -> Dict[str, Any]:
    """``Emitter.stats`` of the default emitter."""
    return default().stats()


def instrument(emitter: Optional[Emitter] = None) -> None:
    """Record the calls of every installed client that has an adapter (OpenAI, LiteLLM); twice is once."""
    from tailrace_emitter.instrumentation import instrument as begin

    begin(emitter)


def uninstrument() -> None:
    """Take back what ``instrument`` did."""
    from tailrace_emitter.instrumentation import uninstrument as end

    end()


def pseudonym(user: str, key: Any) -> str:
    """The name under which ``user`` is stored when users are hashed with ``key``."""
    from tailrace_emitter.redact import pseudonym as of

    return of(user, key)
