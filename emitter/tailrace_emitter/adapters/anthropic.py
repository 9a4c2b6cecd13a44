"""Records the Anthropic SDK in ``client.request``, the one method that every endpoint calls.

So ``messages.create``, ``messages.stream``, ``messages.parse``, tool runners, the beta messages, ``with_raw_response``
and the clients of Bedrock and Vertex AI are all seen, and what the app gets is the SDK's own object.
"""

from contextvars import ContextVar
from functools import partial
from typing import Any, Callable, Dict, List, Optional

import anthropic

from tailrace_emitter.adapters import Patches, raw_stream
from tailrace_emitter.adapters import anthropic_batches as batches
from tailrace_emitter.adapters import anthropic_fields as read
from tailrace_emitter.adapters.recording import (
    AsyncTap,
    Recording,
    Tap,
    default_emitter,
    on_close,
    reported_by_litellm,
)
from tailrace_emitter.adapters.sdk_client import WithEmitter, counting
from tailrace_emitter.emitter import Emitter

_retries: "ContextVar[Optional[List[Optional[int]]]]" = ContextVar("tailrace_anthropic_retries", default=None)

_ABSENT = ("Omit", "NotGiven")
"""The SDK's types for a parameter that the app did not give."""


def _code(error: BaseException) -> Any:
    """The error type that the API reports (``overloaded_error``), else the HTTP status."""
    return getattr(error, "type", None) or _typed(getattr(error, "body", None)) or getattr(error, "status_code", None)


def _typed(body: Any) -> Any:
    error = body.get("error") if isinstance(body, dict) else None
    return error.get("type") if isinstance(error, dict) else None


def _platform(client: Any) -> Optional[str]:
    """The platform whose protocol a client uses, at any address; None for Anthropic's own API."""
    name = getattr(client, "_gen_ai_provider_name", None)
    return name if isinstance(name, str) and name != "anthropic" else None


def _emitter(client: Any) -> Emitter:
    return getattr(client, "_tailrace", None) or default_emitter()


def _body(options: Any) -> Dict[str, Any]:
    """A copy of the request's body: the app may append to its own lists afterwards."""
    extra = getattr(options, "extra_json", None)
    given = {**options.json_data, **(extra if isinstance(extra, dict) else {})}
    body = {name: value for name, value in given.items() if type(value).__name__ not in _ABSENT}
    for name in ("messages", "system", "tools"):
        if isinstance(body.get(name), (list, tuple)):
            body[name] = list(body[name])
    return body


def _prepare(client: Any, options: Any) -> Optional[Recording]:
    """A recording, or None where this request is not to be recorded."""
    try:
        op = read.operation(str(options.url))
        if op is None or not isinstance(options.json_data, dict) or str(options.method).lower() != "post":
            return None
        emitter = _emitter(client)
        if emitter.disabled or reported_by_litellm():
            return None
        host, platform = client.base_url.host, _platform(client)
        return Recording(
            emitter,
            partial(read.request_fields, op, _body(options)),
            host=host,
            provider_of=lambda f: read.provider_of(host, platform, f.get("model"), f.get("response_model")),
            code_of=_code,
        )
    except Exception:  # noqa: BLE001 - a failure of the recording must not reach the app
        return None


def _raw(client: Any, recording: Recording, response: Any) -> None:
    """Record a raw response from the bytes that the app reads; nothing more is read from the network."""

    def ended(body: bytes, *details: Any, whole: bool) -> None:
        error = details[-1]

        def read_fields() -> Dict[str, Any]:
            return read.body_fields(body, client._make_sse_decoder().iter_bytes(iter([body])), read_to_end=whole)

        recording.end(read_fields, error)

    if response.is_stream_consumed or hasattr(response, "_content"):
        recording.end(lambda: read.answer_fields(response.json()))
    else:
        raw_stream.tap(response, ended, recording.begun)


def _observe(client: Any, recording: Recording, result: Any) -> None:
    """Record what the SDK returned: the chunks of a stream, or an answer."""
    try:
        if hasattr(result, "http_response"):
            _raw(client, recording, result.http_response)
        elif hasattr(result, "_iterator") and hasattr(result, "response"):
            kind = AsyncTap if hasattr(result._iterator, "__anext__") else Tap
            tap = kind(result._iterator, recording, read.stream_fields, read.is_whole)
            result._iterator = tap
            on_close(result, tap)
        else:
            recording.end(partial(read.answer_fields, result))
    except Exception:  # noqa: BLE001 - a failure of the recording must not reach the app
        recording.end(dict)


def recorded(request: Callable[..., Any]) -> Callable[..., Any]:
    """``SyncAPIClient.request``, recorded."""

    def call(self: Any, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        recording = _prepare(self, options)
        if recording is None:
            return batches.observed(self, options, request(self, cast_to, options, **kwargs), _emitter)
        token = _retries.set(recording.retries)
        try:
            result = request(self, cast_to, options, **kwargs)
        except BaseException as error:
            recording.end(dict, error)
            raise
        finally:
            _retries.reset(token)
        _observe(self, recording, result)
        return result

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


def recorded_async(request: Callable[..., Any]) -> Callable[..., Any]:
    """``AsyncAPIClient.request``, recorded."""

    async def call(self: Any, cast_to: Any, options: Any, **kwargs: Any) -> Any:
        recording = _prepare(self, options)
        if recording is None:
            return batches.observed(self, options, await request(self, cast_to, options, **kwargs), _emitter)
        token = _retries.set(recording.retries)
        try:
            result = await request(self, cast_to, options, **kwargs)
        except BaseException as error:
            recording.end(dict, error)
            raise
        finally:
            _retries.reset(token)
        _observe(self, recording, result)
        return result

    call.__tailrace__ = request  # type: ignore[attr-defined]
    return call


class Anthropic(WithEmitter, anthropic.Anthropic):
    """``anthropic.Anthropic``, recorded."""

    request = recorded(anthropic.Anthropic.request)
    _build_request = counting(anthropic.Anthropic._build_request, _retries)


class AsyncAnthropic(WithEmitter, anthropic.AsyncAnthropic):
    """``anthropic.AsyncAnthropic``, recorded."""

    request = recorded_async(anthropic.AsyncAnthropic.request)
    _build_request = counting(anthropic.AsyncAnthropic._build_request, _retries)


class AnthropicBedrock(WithEmitter, anthropic.AnthropicBedrock):
    """``anthropic.AnthropicBedrock``, recorded."""

    request = recorded(anthropic.AnthropicBedrock.request)
    _build_request = counting(anthropic.AnthropicBedrock._build_request, _retries)


class AsyncAnthropicBedrock(WithEmitter, anthropic.AsyncAnthropicBedrock):
    """``anthropic.AsyncAnthropicBedrock``, recorded."""

    request = recorded_async(anthropic.AsyncAnthropicBedrock.request)
    _build_request = counting(anthropic.AsyncAnthropicBedrock._build_request, _retries)


class AnthropicVertex(WithEmitter, anthropic.AnthropicVertex):
    """``anthropic.AnthropicVertex``, recorded."""

    request = recorded(anthropic.AnthropicVertex.request)
    _build_request = counting(anthropic.AnthropicVertex._build_request, _retries)


class AsyncAnthropicVertex(WithEmitter, anthropic.AsyncAnthropicVertex):
    """``anthropic.AsyncAnthropicVertex``, recorded."""

    request = recorded_async(anthropic.AsyncAnthropicVertex.request)
    _build_request = counting(anthropic.AsyncAnthropicVertex._build_request, _retries)


def instrument(patches: Patches) -> None:
    """Record every client of the SDK, on any platform, also those that the app has made already."""
    for client, wrap in ((anthropic.Anthropic, recorded), (anthropic.AsyncAnthropic, recorded_async)):
        base: Any = next(cls for cls in client.__mro__ if "request" in vars(cls))
        if not hasattr(base.request, "__tailrace__"):
            patches.set(base, "request", wrap(base.request))
            patches.set(base, "_build_request", counting(base._build_request, _retries))
        if patches.emitter is not None:
            patches.set(base, "_tailrace", patches.emitter)
