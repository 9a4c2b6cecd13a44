"""Fields that are added to everything recorded inside a block: the user, the feature, the session."""

import contextlib
from contextvars import ContextVar, copy_context
from typing import Any, Callable, Dict, Iterator, Mapping, TypeVar

T = TypeVar("T")
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
    """Return ``fields`` merged over those of the enclosing blocks."""
    around = _fields.get()
    return {**around, **fields} if around else fields


@contextlib.contextmanager
def only(fields: Mapping[str, Any]) -> Iterator[None]:
    """Set the context to exactly ``fields`` inside the block, without the fields of the context around it.

    An adapter reads ``around_here()`` when a request is sent and records under it when the answer is complete: by then
    the current context may be that of another request, in this thread or in another.
    """
    token = _fields.set(fields)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a coroutine that was closed in another task
            _fields.reset(token)


def bind(function: Callable[..., T]) -> Callable[..., T]:
    """Return ``function`` with the current context, for a thread pool: threads do not inherit ``context(...)``.

    ``pool.submit(tailrace_emitter.bind(client.chat.completions.create), model=..., messages=...)``
    """
    held = copy_context()

    def bound(*args: Any, **kwargs: Any) -> T:
        return held.copy().run(function, *args, **kwargs)

    return bound
