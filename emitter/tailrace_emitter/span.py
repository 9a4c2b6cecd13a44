"""A running call: measures the time, receives tokens and output, and records the event at the end."""

import contextlib
import functools
import time
from contextvars import ContextVar
from typing import Any, Callable, Dict, List, Optional, TypeVar, cast

from tailrace_emitter.context import merged
from tailrace_emitter.ids import next_id

F = TypeVar("F", bound=Callable[..., Any])
ARGUMENTS = "_arguments"
"""Field under which the arguments of an observed function are handed over."""
EVENT_ID = "_event_id"
"""Field under which an adapter hands over the id of a call that may be seen twice, in this process or in another."""
_current: "ContextVar[Optional[Span]]" = ContextVar("tailrace_span", default=None)
_OWN = frozenset(("_sender", "_fields", "_begun", "_ttft", "_ts_ns", "_token", "_sent", "_parent", "_inside", "id"))
_COUNTED = frozenset(("usage", "tokens", "units", "images", "cost_reported", "cost_reported_usd", "usage_reported"))
"""Fields that hold usage or cost; so does each name that ends in ``_tokens``, but ``max_tokens``."""


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
    _parent: "Optional[Span]"
    _inside: List[Any]

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
        put("_parent", _current.get())
        put("_inside", [])
        put("id", next_id(now_ns))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            return
        self._fields[name] = value

    def set(self, **fields: Any) -> "Span":
        """Set fields of the call; the last value of a field counts."""
        self._fields.update(fields)
        return self

    def first_token(self) -> None:
        """Mark the first chunk of a streamed answer; later ones are ignored."""
        if self._ttft is None:
            object.__setattr__(self, "_ttft", (time.perf_counter() - self._begun) * 1000)

    def counted_inside(self, model: Any) -> None:
        """For adapters: an event of its own counts a call of ``model`` that was made inside this span."""
        self._inside.append(model)
        if self._parent is not None:
            self._parent.counted_inside(model)

    def _leave_counted_to_others(self) -> None:
        """Drop tokens and cost where a call inside the span has an event with them.

        A span of another model keeps its own.
        """
        fields = self._fields
        model = fields.get("model")
        if self._inside and (model is None or any(_is_same(model, other) for other in self._inside)):
            for name in [n for n in fields if n in _COUNTED or (n.endswith("_tokens") and n != "max_tokens")]:
                del fields[name]
        elif self._parent is not None and any(n in _COUNTED or n.endswith("_tokens") for n in fields):
            self._parent.counted_inside(model)

    def end(self, error: Optional[BaseException] = None) -> None:
        """Record the call now; only the first end counts."""
        if self._sent:
            return
        object.__setattr__(self, "_sent", True)
        fields = self._fields
        with contextlib.suppress(Exception):
            self._leave_counted_to_others()
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


def _is_same(model: Any, other: Any) -> bool:
    """Whether two names may be those of one model: ``gpt-4o``, ``openai/gpt-4o`` and ``gpt-4o-2024-08-06``."""
    names = [str(name).rpartition("/")[2] for name in (model, other) if name]
    return len(names) < 2 or names[0].startswith(names[1]) or names[1].startswith(names[0])


def _answer(span: Span, result: Any) -> None:
    """Read a result that has a known shape: a text is the output, a response has its usage."""
    if isinstance(result, str):
        span._fields.setdefault("output", result)
    elif result is not None and hasattr(result, "usage"):
        span._fields.setdefault("usage", result.usage)


TakeIn = Callable[[Span, Any, Any], None]
"""Stores positional and keyword arguments of a call in its span."""


def _input_of(function: Callable[..., Any]) -> TakeIn:
    """Return a function that stores the arguments of a call in its span. The background thread makes a text of them."""
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function in C without a signature
        parameters = ()  # type: ignore[assignment]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = tuple(p.name for p in parameters if p.kind in positional)
    bound = names[:1] if names[:1] in (("self",), ("cls",)) else ()

    def take_in(span: Span, args: Any, kwargs: Any) -> None:
        given = dict(zip(names, args))
        if len(args) > len(names):
            given["args"] = args[len(names) :]
        given.update(kwargs)
        for name in bound:
            given.pop(name, None)
        if given:
            span._fields.setdefault(ARGUMENTS, given)

    return take_in


def observed(span_of: Callable[[], Span], function: F) -> F:
    """``function`` with a span around every call of it: plain, async, generator and async generator functions.

    Its arguments become the input, its text the output.
    """
    import inspect

    wrap = _observed_plain
    if inspect.isasyncgenfunction(function):
        wrap = _observed_async_generator
    elif inspect.iscoroutinefunction(function):
        wrap = _observed_coroutine
    elif inspect.isgeneratorfunction(function):
        wrap = _observed_generator
    return cast(F, functools.wraps(function)(wrap(span_of, function, _input_of(function))))


def _observed_async_generator(span_of: Callable[[], Span], function: Any, take_in: TakeIn) -> Callable[..., Any]:
    async def asyncgen(*args: Any, **kwargs: Any) -> Any:
        pieces = []
        with span_of() as span:
            take_in(span, args, kwargs)
            async for piece in function(*args, **kwargs):
                span.first_token()
                if isinstance(piece, str):
                    pieces.append(piece)
                yield piece
            _answer(span, "".join(pieces) if pieces else None)

    return asyncgen


def _observed_coroutine(span_of: Callable[[], Span], function: Any, take_in: TakeIn) -> Callable[..., Any]:
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        with span_of() as span:
            take_in(span, args, kwargs)
            result = await function(*args, **kwargs)
            _answer(span, result)
            return result

    return coroutine


def _observed_generator(span_of: Callable[[], Span], function: Any, take_in: TakeIn) -> Callable[..., Any]:
    def generator(*args: Any, **kwargs: Any) -> Any:
        pieces = []
        with span_of() as span:
            take_in(span, args, kwargs)
            for piece in function(*args, **kwargs):
                span.first_token()
                if isinstance(piece, str):
                    pieces.append(piece)
                yield piece
            _answer(span, "".join(pieces) if pieces else None)

    return generator


def _observed_plain(span_of: Callable[[], Span], function: Any, take_in: TakeIn) -> Callable[..., Any]:
    def plain(*args: Any, **kwargs: Any) -> Any:
        with span_of() as span:
            take_in(span, args, kwargs)
            result = function(*args, **kwargs)
            _answer(span, result)
            return result

    return plain
