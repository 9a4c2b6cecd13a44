"""Records the Google GenAI SDK in the API client's ``request`` and its three variants, which every method calls.

So ``generate_content``, its streams, chats, each request of automatic function calling, ``embed_content`` and
``generate_images`` are all seen, for the Gemini API and for Vertex AI, and what the app gets is the SDK's own object.
"""

import functools
from functools import partial
from typing import Any, AsyncIterator, Callable, Dict, Iterator, Mapping, Optional
from urllib.parse import urlsplit

from google import genai
from google.genai import _api_client

from tailrace_emitter.adapters import Patches
from tailrace_emitter.adapters import google_fields as read
from tailrace_emitter.adapters.recording import AsyncTap, Recording, Tap, default_emitter, reported_by_litellm
from tailrace_emitter.context import around_here, only
from tailrace_emitter.emitter import Emitter

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def _code(error: BaseException) -> Any:
    """The status that the API reports (``RESOURCE_EXHAUSTED``), else the HTTP status."""
    return getattr(error, "status", None) or getattr(error, "code", None)


def _host(client: Any, given: Any) -> Optional[str]:
    """The host of a request: that of its own options, else the client's."""
    options = [given, getattr(client, "_http_options", None)]
    urls = [o.get("base_url") if isinstance(o, dict) else getattr(o, "base_url", None) for o in options]
    return next((urlsplit(url).hostname for url in urls if isinstance(url, str) and url), None)


def _prepare(client: Any, path: Any, body: Any, options: Any, *, stream: bool) -> Optional[Recording]:
    """A recording, or None where this request is not to be recorded."""
    try:
        found = read.operation(str(path), body) if isinstance(body, dict) else None
        if found is None:
            return None
        emitter = getattr(client, "_tailrace", None) or default_emitter()
        if emitter.disabled or reported_by_litellm():
            return None
        host, vertex = _host(client, options), bool(client.vertexai)
        return Recording(
            emitter,
            partial(read.request_fields, *found, dict(body), stream=stream),
            host=host,
            provider_of=lambda fields: read.provider_of(host, vertex=vertex),
            code_of=_code,
        )
    except Exception:  # noqa: BLE001 - a failure of the recording must not reach the app
        return None


def _kept(answer: Any) -> Any:
    """An answer or a chunk: a copy of the JSON, or the JSON text that later versions of the SDK return."""
    return read.snapshot(answer) if isinstance(answer, dict) else getattr(answer, "body", None)


def _answered(recording: Recording, answer: Any) -> None:
    try:
        recording.end(partial(read.answer_fields, _kept(answer)))
    except Exception:  # noqa: BLE001 - a failure of the recording must not reach the app
        recording.end(dict)


def recorded(request: Callable[..., Any]) -> Callable[..., Any]:
    """``BaseApiClient.request``, recorded."""

    def call(self: Any, http_method: Any, path: Any, request_dict: Any, http_options: Any = None) -> Any:
        recording = _prepare(self, path, request_dict, http_options, stream=False)
        if recording is None:
            return request(self, http_method, path, request_dict, http_options)
        try:
            answer = request(self, http_method, path, request_dict, http_options)
        except BaseException as error:
            recording.end(dict, error)
            raise
        _answered(recording, answer)
        return answer

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


def recorded_async(request: Callable[..., Any]) -> Callable[..., Any]:
    """``BaseApiClient.async_request``, recorded."""

    async def call(self: Any, http_method: Any, path: Any, request_dict: Any, http_options: Any = None) -> Any:
        recording = _prepare(self, path, request_dict, http_options, stream=False)
        if recording is None:
            return await request(self, http_method, path, request_dict, http_options)
        try:
            answer = await request(self, http_method, path, request_dict, http_options)
        except BaseException as error:
            recording.end(dict, error)
            raise
        _answered(recording, answer)
        return answer

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


def streamed(request: Callable[..., Any]) -> Callable[..., Any]:
    """``BaseApiClient.request_streamed``, recorded."""

    def call(self: Any, http_method: Any, path: Any, request_dict: Any, http_options: Any = None) -> Any:
        recording = _prepare(self, path, request_dict, http_options, stream=True)
        chunks = request(self, http_method, path, request_dict, http_options)
        if recording is None:
            return chunks
        return Tap(chunks, recording, read.stream_fields, read.is_whole, keep=_kept)

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


def streamed_async(request: Callable[..., Any]) -> Callable[..., Any]:
    """``BaseApiClient.async_request_streamed``, recorded."""

    async def call(self: Any, http_method: Any, path: Any, request_dict: Any, http_options: Any = None) -> Any:
        recording = _prepare(self, path, request_dict, http_options, stream=True)
        if recording is None:
            return await request(self, http_method, path, request_dict, http_options)
        try:
            chunks = await request(self, http_method, path, request_dict, http_options)
        except BaseException as error:
            recording.end(dict, error)
            raise
        return AsyncTap(chunks, recording, read.stream_fields, read.is_whole, keep=_kept)

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


def _under(context: Mapping[str, Any], chunks: Iterator[Any]) -> Iterator[Any]:
    try:
        while True:
            with only(context):
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
            yield chunk
    finally:
        chunks.close()  # type: ignore[attr-defined]


async def _under_async(context: Mapping[str, Any], chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    try:
        while True:
            with only(context):
                try:
                    chunk = await chunks.__anext__()
                except StopAsyncIteration:
                    return
            yield chunk
    finally:
        await chunks.aclose()  # type: ignore[attr-defined]


def owned(stream: Callable[..., Any]) -> Callable[..., Any]:
    """A generator of the SDK sends its request when it is first read; so it is read in the context of the call."""

    @functools.wraps(stream)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _under(around_here(), stream(self, *args, **kwargs))

    return call


def owned_async(stream: Callable[..., Any]) -> Callable[..., Any]:
    """The same of a coroutine that returns an asynchronous generator."""

    @functools.wraps(stream)
    async def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _under_async(around_here(), await stream(self, *args, **kwargs))

    return call


_API: Dict[str, Wrap] = {
    "request": recorded,
    "async_request": recorded_async,
    "request_streamed": streamed,
    "async_request_streamed": streamed_async,
}


_classes: Dict[Any, type] = {}


def _record(thing: Any, **wraps: Wrap) -> Any:
    """Record some methods of one object of the SDK, without changing its class; returns the object.

    What ``instrument()`` has wrapped already is wrapped once.
    """
    kind = type(thing)
    key = (kind, *wraps.values())
    if key not in _classes:
        found = {name: getattr(kind, name) for name in wraps}
        methods = {name: wrap(getattr(found[name], "__tailrace__", found[name])) for name, wrap in wraps.items()}
        _classes[key] = type(kind.__name__, (kind,), methods)
    thing.__class__ = _classes[key]
    return thing


def _chats(create: Callable[..., Any]) -> Callable[..., Any]:
    """``Chats.create``, whose chats send their streams under the context of the call."""
    return lambda self, **kwargs: _record(create(self, **kwargs), send_message_stream=owned)


def _chats_async(create: Callable[..., Any]) -> Callable[..., Any]:
    """``AsyncChats.create``, the same."""
    return lambda self, **kwargs: _record(create(self, **kwargs), send_message_stream=owned_async)


class _AsyncClient(genai.client.AsyncClient):
    """``client.aio``."""

    @property
    def chats(self) -> Any:
        return _record(super().chats, create=_chats_async)


class Client(genai.Client):
    """``genai.Client``, recorded; ``tailrace=Emitter(...)``, without it the default emitter records."""

    def __init__(self, *args: Any, tailrace: Optional[Emitter] = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        vars(self._api_client)["_tailrace"] = tailrace
        _record(self._api_client, **_API)
        _record(self.models, generate_content_stream=owned)
        _record(self.aio.models, generate_content_stream=owned_async)
        self.aio.__class__ = _AsyncClient

    @property
    def chats(self) -> Any:
        """Chats, whose messages are recorded."""
        return _record(super().chats, create=_chats)


def instrument(patches: Patches) -> None:
    """Record every client of the SDK, also those that the app has made already."""
    api: Any = _api_client.BaseApiClient
    classes: Dict[Any, Dict[str, Wrap]] = {
        api: _API,
        genai.models.Models: {"generate_content_stream": owned},
        genai.models.AsyncModels: {"generate_content_stream": owned_async},
        genai.chats.Chat: {"send_message_stream": owned},
        genai.chats.AsyncChat: {"send_message_stream": owned_async},
    }
    if hasattr(api.request, "__tailrace__"):
        return
    for cls, wraps in classes.items():
        for name, wrap in wraps.items():
            patches.set(cls, name, wrap(getattr(cls, name)))
    if patches.emitter is not None:
        patches.set(api, "_tailrace", patches.emitter)
