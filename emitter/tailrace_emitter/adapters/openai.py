"""Records the OpenAI SDK in ``client.request``, the one method that every endpoint calls.

So ``create``, ``parse``, ``stream``, ``with_raw_response`` and Azure's clients are all recorded, and the app gets the
SDK's own object, never a wrapper. A stream keeps its class; only its inner iterator is replaced. If anything here
fails, the app's call continues unchanged and is not recorded.
"""

import contextlib
from contextvars import ContextVar
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

import openai

from tailrace_emitter.adapters import Patches
from tailrace_emitter.adapters.openai_batches import BatchWatch
from tailrace_emitter.adapters.openai_jobs import BackgroundRecording, RetrieveRecording
from tailrace_emitter.adapters.openai_recording import Recording
from tailrace_emitter.adapters.openai_routes import Route, route
from tailrace_emitter.adapters.recording import default_emitter, reported_by_litellm
from tailrace_emitter.adapters.sdk_client import WithEmitter, counting

_retries: "ContextVar[Optional[List[int]]]" = ContextVar("tailrace_openai_retries", default=None)
_KINDS = {"call": Recording, "background": BackgroundRecording, "retrieve": RetrieveRecording}


class _Prepared(NamedTuple):
    """A request that is recorded, and the options to send."""

    recording: Any
    options: Any


def _prepare(client: Any, options: Any, *, stream: bool) -> Optional[_Prepared]:
    """A recording and the options to send, or None where this request is not to be recorded."""
    try:
        body = _body(options)
        found = route(str(options.method), str(options.url), body)
        if found is None:
            return None
        emitter = getattr(client, "_tailrace", None) or default_emitter()
        if emitter.disabled or reported_by_litellm():
            return None
        if found.kind not in _KINDS:
            return _Prepared(BatchWatch(emitter, client, found), options)
        ask = stream and _may_ask_usage(client, found, options, body)
        asked = {} if found.kind == "retrieve" else body
        recording = _KINDS[found.kind](emitter, client, asked, found.op, hide_usage=ask)
        if ask:
            options = options.model_copy() if hasattr(options, "model_copy") else options.copy()
            options.json_data = {**options.json_data, "stream_options": {"include_usage": True}}
        return _Prepared(recording, options)
    except Exception:  # noqa: BLE001 - a failure of the recording must not reach the app
        return None


def _body(options: Any) -> Dict[str, Any]:
    """The body of a request, with what the app put beside the SDK's own arguments (``extra_body``)."""
    given, more = options.json_data, getattr(options, "extra_json", None)
    given = given if isinstance(given, dict) else {}
    return {**given, **more} if isinstance(more, dict) else given


def _may_ask_usage(client: Any, found: Route, options: Any, body: Mapping[str, Any]) -> bool:
    """Whether the usage of a stream has to be requested, and the server may accept that."""
    return (
        found.kind == "call"
        and found.op in ("chat", "text_completion")
        and "/responses" not in str(options.url)
        and not client.__dict__.get("_tailrace_no_usage")
        and body.get("stream_options") is None
    )


def _observe(recording: Any, result: Any, *, stream: bool) -> None:
    try:
        recording.observe(result, stream=stream)
    except Exception:  # noqa: BLE001 - a failure of the recording must not reach the app
        with contextlib.suppress(Exception):
            recording.end(dict)


def _failed(recording: Any, error: BaseException) -> None:
    with contextlib.suppress(Exception):
        recording.failed(error)


def _refused_usage(error: BaseException, asked: bool) -> bool:
    """Whether a server may have refused ``stream_options``, which the app did not send."""
    return asked and getattr(error, "status_code", None) in (400, 404, 422)


def recorded(request: Callable[..., Any]) -> Callable[..., Any]:
    """``SyncAPIClient.request``, recorded."""

    def call(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        prepared = _prepare(self, options, stream=stream)
        if prepared is None:
            return request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        recording = prepared.recording
        token = _retries.set(recording.retries)
        try:
            try:
                result = request(self, cast_to, prepared.options, stream=stream, stream_cls=stream_cls)
            except Exception as error:
                if not _refused_usage(error, recording.hide_usage):
                    raise
                result = request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
                recording.hide_usage = False
                self.__dict__["_tailrace_no_usage"] = True
        except BaseException as error:
            _failed(recording, error)
            raise
        finally:
            _retries.reset(token)
        _observe(recording, result, stream=stream)
        return result

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


def recorded_async(request: Callable[..., Any]) -> Callable[..., Any]:
    """``AsyncAPIClient.request``, recorded."""

    async def call(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        prepared = _prepare(self, options, stream=stream)
        if prepared is None:
            return await request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
        recording = prepared.recording
        token = _retries.set(recording.retries)
        try:
            try:
                result = await request(self, cast_to, prepared.options, stream=stream, stream_cls=stream_cls)
            except Exception as error:
                if not _refused_usage(error, recording.hide_usage):
                    raise
                result = await request(self, cast_to, options, stream=stream, stream_cls=stream_cls)
                recording.hide_usage = False
                self.__dict__["_tailrace_no_usage"] = True
        except BaseException as error:
            _failed(recording, error)
            raise
        finally:
            _retries.reset(token)
        _observe(recording, result, stream=stream)
        return result

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


class OpenAI(WithEmitter, openai.OpenAI):
    """``openai.OpenAI``, recorded."""

    request = recorded(openai.OpenAI.request)
    _build_request = counting(openai.OpenAI._build_request, _retries)


class AsyncOpenAI(WithEmitter, openai.AsyncOpenAI):
    """``openai.AsyncOpenAI``, recorded."""

    request = recorded_async(openai.AsyncOpenAI.request)
    _build_request = counting(openai.AsyncOpenAI._build_request, _retries)


class AzureOpenAI(WithEmitter, openai.AzureOpenAI):
    """``openai.AzureOpenAI``, recorded."""

    request = recorded(openai.AzureOpenAI.request)
    _build_request = counting(openai.AzureOpenAI._build_request, _retries)


class AsyncAzureOpenAI(WithEmitter, openai.AsyncAzureOpenAI):
    """``openai.AsyncAzureOpenAI``, recorded."""

    request = recorded_async(openai.AsyncAzureOpenAI.request)
    _build_request = counting(openai.AsyncAzureOpenAI._build_request, _retries)


def instrument(patches: Patches) -> None:
    """Record every client of the SDK, also those that the app has made already."""
    for cls, wrap in ((openai.OpenAI, recorded), (openai.AsyncOpenAI, recorded_async)):
        if not hasattr(cls.request, "__tailrace__"):
            patches.set(cls, "request", wrap(cls.request))
            patches.set(cls, "_build_request", counting(cls._build_request, _retries))
        if patches.emitter is not None:
            patches.set(cls, "_tailrace", patches.emitter)
