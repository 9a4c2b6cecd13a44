"""Fields that hold for everything recorded inside a block: who asks, for which feature, in which session."""

import contextlib
from contextvars import ContextVar
from typing import Any, Dict, Iterator, Mapping

_EMPTY: Mapping[str, Any] = {}
_fields: "ContextVar[Mapping[str, Any]]" = ContextVar("tailrace_fields", default=_EMPTY)
around_here = _fields.get


@contextlib.contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Add ``fields`` to every event of this thread or task inside the block; blocks nest, the inner one wins.

    ``with tailrace_emitter.context(feature="search", user=user_id, session_id=chat): client.chat...``
    """
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a generator that was closed in another task
            _fields.reset(token)


def merged(fields: Dict[str, Any]) -> Dict[str, Any]:
    """``fields`` over those of the blocks around."""
    around = _fields.get()
    return {**around, **fields} if around else fields
