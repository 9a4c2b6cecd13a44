"""A call while it lasts: measures the time, takes tokens and output, records itself at the end."""

import contextlib
import functools
import time
from contextvars import ContextVar
from typing import Any, Callable, Dict, Optional, TypeVar, cast

from tailrace_emitter.context import merged
from tailrace_emitter.ids import next_id

F = TypeVar("F", bound=Callable[..., Any])
_current: "ContextVar[Optional[Span]]" = ContextVar("tailrace_span", default=None)
_OWN = frozenset(("_sender", "_fields", "_begun", "_ttft", "_ts_ns", "_token", "_sent", "id"))


def current() -> "Optional[Span]":
    """The innermost span of this thread or task, e.g. to give tokens from inside an observed function."""
    return _current.get()


class Span:
    """``with emitter.span(model="gpt-4o") as call: ...``; also ``async with``.

    Any field of a call can be set as an attribute or with ``set``: ``call.output = text``,
    ``call.set(input_tokens=12, output_tokens=40)``, ``call.usage = response.usage``.
    An exception marks the call as an error and goes on to the app unchanged. ``call.id`` is known from the start.
    """

    id: str
    _sender: Any
    _fields: Dict[str, Any]
    _ts_ns: int
    _begun: float
    _ttft: Optional[float]
    _token: Any
    _sent: bool

    def __init__(self, sender: Any, fields: Dict[str, Any]) -> None:
        put = functools.partial(object.__setattr__, self)
        now_ns = time.time_ns()
        put("_sender", sender)
        put("_fields", merged(fields))
        put("_ts_ns", now_ns)
        put("_begun", time.perf_counter())
        put("_ttft", None)
        put("_token", None)
        put("_sent", False)
        put("id", next_id(now_ns))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            return
        self._fields[name] = value

    def set(self, **fields: Any) -> "Span":
        """Set fields of the call; the last word counts."""
        self._fields.update(fields)
        return self

    def first_token(self) -> None:
        """Mark the first chunk of a streamed answer; later ones are ignored."""
        if self._ttft is None:
            object.__setattr__(self, "_ttft", (time.perf_counter() - self._begun) * 1000)

    def end(self, error: Optional[BaseException] = None) -> None:
        """Record the call now; only the first end counts."""
        if self._sent:
            return
        object.__setattr__(self, "_sent", True)
        fields = self._fields
        fields.setdefault("latency_ms", (time.perf_counter() - self._begun) * 1000)
        if self._ttft is not None:
            fields.setdefault("ttft_ms", self._ttft)
        if error is not None:
            fields.setdefault("error", error)
            if isinstance(error, (KeyboardInterrupt, GeneratorExit)) or type(error).__name__ == "CancelledError":
                fields["status"] = "cancelled"
        with contextlib.suppress(Exception):  # never raises into the app
            self._sender.put("call", fields, ended=False, event_id=self.id, ts_ns=self._ts_ns)

    def __enter__(self) -> "Span":
        object.__setattr__(self, "_token", _current.set(self))
        return self

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        with contextlib.suppress(ValueError):  # ended in another task than it began in
            _current.reset(self._token)
        self.end(error)

    async def __aenter__(self) -> "Span":
        return self.__enter__()

    async def __aexit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        self.__exit__(kind, error, trace)


def _answer(span: Span, result: Any) -> None:
    """What can be read off a result without asking anything: a text is the output, a response names its usage."""
    if isinstance(result, str):
        span._fields.setdefault("output", result)
    elif result is not None and hasattr(result, "usage"):
        span._fields.setdefault("usage", result.usage)


def observed(span_of: Callable[[], Span], function: F) -> F:
    """``function`` with a span around every call of it: plain, async, generator and async generator functions."""
    import inspect

    if inspect.isasyncgenfunction(function):

        @functools.wraps(function)
        async def asyncgen(*args: Any, **kwargs: Any) -> Any:
            pieces = []
            with span_of() as span:
                async for piece in function(*args, **kwargs):
                    span.first_token()
                    if isinstance(piece, str):
                        pieces.append(piece)
                    yield piece
                _answer(span, "".join(pieces) if pieces else None)

        return cast(F, asyncgen)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def coroutine(*args: Any, **kwargs: Any) -> Any:
            with span_of() as span:
                result = await function(*args, **kwargs)
                _answer(span, result)
                return result

        return cast(F, coroutine)
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generator(*args: Any, **kwargs: Any) -> Any:
            pieces = []
            with span_of() as span:
                for piece in function(*args, **kwargs):
                    span.first_token()
                    if isinstance(piece, str):
                        pieces.append(piece)
                    yield piece
                _answer(span, "".join(pieces) if pieces else None)

        return cast(F, generator)

    @functools.wraps(function)
    def plain(*args: Any, **kwargs: Any) -> Any:
        with span_of() as span:
            result = function(*args, **kwargs)
            _answer(span, result)
            return result

    return cast(F, plain)
