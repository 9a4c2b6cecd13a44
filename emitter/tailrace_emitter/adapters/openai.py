"""The OpenAI SDK, recorded at its one door: ``client.request``, through which every endpoint goes.

So ``create``, ``parse``, ``stream``, ``with_raw_response`` and Azure's clients are all seen, and what the app
gets is the SDK's own object, never a wrapper. A stream keeps its class; only its inner iterator is tapped.
If anything here fails, the app's call goes on as if it were not here.
"""

import contextlib
import sys
import time
from contextvars import ContextVar
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Tuple

import openai

from tailrace_emitter.adapters import openai_fields as read
from tailrace_emitter.emitter import Emitter

_retries: "ContextVar[Optional[List[int]]]" = ContextVar("tailrace_openai_retries", default=None)
_RAW = "X-Stainless-Raw-Response"
_FRAMES = 14


def _default() -> Emitter:
    from tailrace_emitter import default

    return default()


def _by_litellm() -> bool:
    """Whether LiteLLM makes this call: it reports the call itself where its logger is on."""
    if "litellm" not in sys.modules:
        return False
    from tailrace_emitter import instrumentation

    if not instrumentation.litellm_reports():
        return False
    frame = sys._getframe(2)
    for _ in range(_FRAMES):
        if frame.f_globals.get("__name__", "").startswith("litellm."):
            return True
        if frame.f_back is None:
            return False
        frame = frame.f_back
    return False


class _Recording:
    """One call in the making: what was asked, when it began, when the first chunk came."""

    def __init__(self, emitter: Emitter, client: Any, options: Any, op: str, *, hide_usage: bool) -> None:
        self._emitter = emitter
        self._op = op
        self._body = dict(options.json_data)
        for name in ("messages", "input"):
            if isinstance(self._body.get(name), list):
                self._body[name] = list(self._body[name])  # the app goes on and appends to it
        if hide_usage:
            self._body.pop("stream_options", None)
        self._host = client.base_url.host
        self._chunks: List[Any] = []
        self._ttft_ms: Optional[float] = None
        self._done = False
        self.retries = [0]
        self._begun = time.perf_counter()

    def _ms(self) -> float:
        return (time.perf_counter() - self._begun) * 1000

    def chunk(self, chunk: Any) -> None:
        if self._ttft_ms is None:
            self._ttft_ms = self._ms()
        self._chunks.append(chunk)

    def end(self, told: Callable[[], Dict[str, Any]], error: Optional[BaseException] = None) -> None:
        """Record the call; ``told`` is asked in the background thread."""
        if self._done:
            return
        self._done = True
        fields: Dict[str, Any] = {"latency_ms": self._ms(), "host": self._host, "retries": self.retries[0]}
        if self._ttft_ms is not None:
            fields["ttft_ms"] = self._ttft_ms

        def lazy(given: Dict[str, Any]) -> Dict[str, Any]:
            out = {"provider": read.provider_of(self._host), **read.request_fields(self._op, self._body)}
            with contextlib.suppress(Exception):  # an answer of a new shape still leaves the call itself
                out.update(told())
            if error is not None:
                out.update(read.error_fields(error))
            extra = {**out.get("extra", {}), **given.get("extra", {})}
            out.update(given)  # what the app says by context() comes before what is read off the request
            return {**out, "extra": extra} if extra else out

        self._emitter.record(fields, lazy)

    def answer(self, answer: Any) -> None:
        self.end(partial(read.answer_fields, self._op, answer))

    def raw(self, raw: Any) -> None:
        """A raw response: read again from the bytes that are there, never from the wire."""
        response = raw.http_response

        def told() -> Dict[str, Any]:
            if not response.is_stream_consumed and not hasattr(response, "_content"):
                return {"usage_reported": False}
            return read.answer_fields(self._op, response.json())

        self.end(told)

    def finished(self, error: Optional[BaseException] = None) -> None:
        self.end(partial(read.stream_fields, self._op, self._chunks), error)

    def abandoned(self) -> None:
        def told() -> Dict[str, Any]:
            return {**read.stream_fields(self._op, self._chunks), "status": "cancelled"}

        self.end(told)


def _is_hidden(chunk: Any) -> bool:
    return not getattr(chunk, "choices", True) and getattr(chunk, "usage", None) is not None


def _unask(chunk: Any) -> None:
    """Usage was asked for by us: a chunk then says ``usage: null`` where it would have said nothing."""
    if getattr(chunk, "usage", 0) is None:
        with contextlib.suppress(Exception):
            chunk.__pydantic_fields_set__.discard("usage")


class _Tap:
    """Iterates a stream's own iterator and remembers what passed; hides the chunk the app did not ask for."""

    def __init__(self, inner: Any, recording: _Recording, *, hide_usage: bool) -> None:
        self._inner = inner
        self._recording = recording
        self._hide = hide_usage

    def _pass(self, chunk: Any) -> bool:
        with contextlib.suppress(Exception):
            self._recording.chunk(chunk)
            if self._hide:
                if _is_hidden(chunk):
                    return False
                _unask(chunk)
        return True

    def __iter__(self) -> "_Tap":
        return self

    def __next__(self) -> Any:
        while True:
            try:
                chunk = next(self._inner)
            except StopIteration:
                self._recording.finished()
                raise
            except BaseException as error:
                self._recording.finished(error)
                raise
            if self._pass(chunk):
                return chunk

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._recording.abandoned()


class _AsyncTap(_Tap):
    def __aiter__(self) -> "_AsyncTap":
        return self

    async def __anext__(self) -> Any:
        while True:
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                self._recording.finished()
                raise
            except BaseException as error:
                self._recording.finished(error)
                raise
            if self._pass(chunk):
                return chunk


def _closing(close: Callable[[], Any], recording: _Recording, *, asynchronous: bool) -> Callable[[], Any]:
    """The stream's own ``close``; what was heard by then is recorded."""

    def closed() -> Any:
        with contextlib.suppress(Exception):
            recording.abandoned()
        return close()

    async def closed_async() -> Any:
        with contextlib.suppress(Exception):
            recording.abandoned()
        return await close()

    return closed_async if asynchronous else closed


def _raw(options: Any) -> bool:
    headers = options.headers if isinstance(options.headers, dict) else {}
    return any(str(name).lower() == _RAW.lower() for name in headers)


def _prepare(client: Any, options: Any, *, stream: bool) -> Optional[Tuple[_Recording, Any, bool]]:
    """A recording and the options to send, or None where this request is not ours to record."""
    try:
        op = read.operation(str(options.url))
        if op is None or not isinstance(options.json_data, dict) or str(options.method).lower() != "post":
            return None
        emitter = getattr(client, "_tailrace", None) or _default()
        if emitter.disabled or _by_litellm():
            return None
        ask = (
            stream
            and op in ("chat", "text_completion")
            and "/responses" not in str(options.url)
            and not _raw(options)
            and not client.__dict__.get("_tailrace_no_usage")
            and options.json_data.get("stream_options") is None
        )
        recording = _Recording(emitter, client, options, op, hide_usage=ask)
        if ask:
            options = options.model_copy() if hasattr(options, "model_copy") else options.copy()
            options.json_data = {**options.json_data, "stream_options": {"include_usage": True}}
        return recording, options, ask
    except Exception:  # noqa: BLE001 - never in the app's way
        return None


def _observe(recording: _Recording, result: Any, *, stream: bool, hide: bool) -> None:
    """Look at what the SDK returned; taps a stream, reads an answer."""
    try:
        if hasattr(result, "http_response"):
            recording.raw(result)
        elif stream and hasattr(result, "_iterator"):
            tap = _AsyncTap if hasattr(result._iterator, "__anext__") else _Tap
            result._iterator = tap(result._iterator, recording, hide_usage=hide)
            # a stream closed early is part of a reference cycle: do not wait for the collector to record it
            result.close = _closing(result.close, recording, asynchronous=tap is _AsyncTap)
        else:
            recording.answer(result)
    except Exception:  # noqa: BLE001 - never in the app's way
        recording.end(dict)


def _refused_usage(error: BaseException, asked: bool) -> bool:
    """Whether a server may not have understood ``stream_options``, which the app had not sent."""
    return asked and getattr(error, "status_code", None) in (400, 404, 422)


def recorded(request: Callable[..., Any]) -> Callable[..., Any]:
    """``SyncAPIClient.request``, recorded."""

    def call(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        prepared = _prepare(self, options, stream=stream)
        if prepared is None:
            return request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        recording, asked, hide = prepared
        token = _retries.set(recording.retries)
        try:
            try:
                result = request(self, cast_to, asked, stream=stream, stream_cls=stream_cls)
            except Exception as error:
                if not _refused_usage(error, hide):
                    raise
                result, hide = request(self, cast_to, options, stream=stream, stream_cls=stream_cls), False
                self.__dict__["_tailrace_no_usage"] = True
        except BaseException as error:
            recording.end(dict, error)
            raise
        finally:
            _retries.reset(token)
        _observe(recording, result, stream=stream, hide=hide)
        return result

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


def recorded_async(request: Callable[..., Any]) -> Callable[..., Any]:
    """``AsyncAPIClient.request``, recorded."""

    async def call(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        prepared = _prepare(self, options, stream=stream)
        if prepared is None:
            return await request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        recording, asked, hide = prepared
        token = _retries.set(recording.retries)
        try:
            try:
                result = await request(self, cast_to, asked, stream=stream, stream_cls=stream_cls)
            except Exception as error:
                if not _refused_usage(error, hide):
                    raise
                result, hide = await request(self, cast_to, options, stream=stream, stream_cls=stream_cls), False
                self.__dict__["_tailrace_no_usage"] = True
        except BaseException as error:
            recording.end(dict, error)
            raise
        finally:
            _retries.reset(token)
        _observe(recording, result, stream=stream, hide=hide)
        return result

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


def counting(build: Callable[..., Any]) -> Callable[..., Any]:
    """``BaseClient._build_request``, which is told how many attempts went before."""

    def call(self: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
        holder = _retries.get()
        if holder is not None:
            holder[0] = kwargs.get("retries_taken", 0)
        return build(self, options, *args, **kwargs)

    call.__tailrace__ = build  # type: ignore[attr-defined]
    return call


class _Given:
    """Takes ``tailrace=Emitter(...)``; without it the default emitter records."""

    _tailrace: Optional[Emitter] = None

    def __init__(self, *args: Any, tailrace: Optional[Emitter] = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tailrace = tailrace

    def copy(self, **kwargs: Any) -> Any:
        """The SDK's ``copy`` (and ``with_options``), with the same emitter."""
        copied = super().copy(**kwargs)  # type: ignore[misc]
        copied._tailrace = self._tailrace
        return copied

    with_options = copy


class OpenAI(_Given, openai.OpenAI):
    """``openai.OpenAI``, recorded."""

    request = recorded(openai.OpenAI.request)
    _build_request = counting(openai.OpenAI._build_request)


class AsyncOpenAI(_Given, openai.AsyncOpenAI):
    """``openai.AsyncOpenAI``, recorded."""

    request = recorded_async(openai.AsyncOpenAI.request)
    _build_request = counting(openai.AsyncOpenAI._build_request)


class AzureOpenAI(_Given, openai.AzureOpenAI):
    """``openai.AzureOpenAI``, recorded."""

    request = recorded(openai.AzureOpenAI.request)
    _build_request = counting(openai.AzureOpenAI._build_request)


class AsyncAzureOpenAI(_Given, openai.AsyncAzureOpenAI):
    """``openai.AsyncAzureOpenAI``, recorded."""

    request = recorded_async(openai.AsyncAzureOpenAI.request)
    _build_request = counting(openai.AsyncAzureOpenAI._build_request)
