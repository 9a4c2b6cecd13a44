"""A running request of the OpenAI SDK: its owner, its times, its chunks; one event at its end.

The app's thread only stores references. The background thread reads the objects.
"""

import contextlib
from functools import partial
from typing import Any, Callable, Dict, List, Optional

from tailrace_emitter.adapters import openai_fields as read
from tailrace_emitter.adapters import openai_streams, raw_stream
from tailrace_emitter.adapters.providers import provider_of
from tailrace_emitter.adapters.recording import Timed
from tailrace_emitter.context import around_here
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.span import current

Fields = Dict[str, Any]
Read = Callable[[], Fields]


class Recording(Timed):
    """A call that is not finished: its request, its start, the time of its first chunk.

    Args:
        emitter: records the call.
        client: of the SDK.
        body: of the request, as the app made it.
        op: operation.
        hide_usage: the emitter requested the usage and the app did not.
    """

    def __init__(self, emitter: Emitter, client: Any, body: Fields, op: str, *, hide_usage: bool = False) -> None:
        self.emitter = emitter
        self.context = around_here()  # of the request: a stream may be read under another one's
        self.host = client.base_url.host
        self.op = op
        self.body = dict(body)
        for name in ("messages", "input"):
            if isinstance(self.body.get(name), list):
                self.body[name] = list(self.body[name])  # a copy: the app may append to its list
        self.hide_usage = hide_usage
        self.retries = [0]
        self.reading = False
        """The app's thread waits for the next chunk: what closes the stream now is the stream's own end."""
        self._span = current()
        super().__init__()

    def end(self, answer: Read, error: Optional[BaseException] = None, *, event_id: str = "") -> None:
        """Record the call, once; ``answer`` is read in the background thread.

        A call with a given ``event_id`` ended before it was seen: ``answer`` holds its times.
        """
        if self._done:
            return
        self._done = True
        known: Fields = {"host": self.host, "retries": self.retries[0]}
        if not event_id:
            known["latency_ms"] = self._ms()
        if self._ttft_ms is not None:
            known["ttft_ms"] = self._ttft_ms
        if self._span is not None and error is None:
            self._span.counted_inside(self.body.get("model"))
        lazy = partial(_all_fields, self.op, self.body, self.host, answer, error)
        self.emitter.record(known, lazy, context=self.context, event_id=event_id)

    # -- how a request may end ------------------------------------------------------------------------------

    def failed(self, error: BaseException) -> None:
        """The SDK raised instead of returning."""
        self.end(dict, error)

    def answered(self, answer: Any) -> None:
        """The SDK returned an answer."""
        self.end(partial(read.answer_fields, self.op, answer, self.body))

    def finished(self, error: Optional[BaseException] = None) -> None:
        """A stream ended, or broke."""
        self.end(partial(openai_streams.stream_fields, self.op, self.chunks, self.body), error)

    def abandoned(self) -> None:
        """The app stopped reading: what it received is recorded."""
        self.end(partial(_cancelled, self.op, self.chunks, self.body))

    def body_ended(self, body: bytes, error: Optional[BaseException], *, whole: bool, content_type: str) -> None:
        """A raw response was read, closed or dropped."""

        def answer() -> Fields:
            if error is None and not whole:
                return raw_stream.partial_fields(self.op, body, self.body)
            return raw_stream.fields(self.op, body, content_type, self.body)

        self.end(answer, error)

    # -- what the SDK returned ------------------------------------------------------------------------------

    def observe(self, result: Any, *, stream: bool) -> None:
        """Handle what the SDK returned: record the chunks of a stream, or an answer."""
        response = getattr(result, "http_response", None)
        if response is None and hasattr(result, "is_stream_consumed"):  # the app asked for the response of httpx
            response = result
        if response is not None:
            ended = partial(self.body_ended, content_type=str(response.headers.get("content-type", "")))
            if hasattr(response, "_content"):
                ended(response.content, None, whole=True)
            else:
                raw_stream.tap(response, ended, self.begun, hide_usage=self.hide_usage)
        elif stream and hasattr(result, "_iterator"):
            tap = AsyncTap if hasattr(result._iterator, "__anext__") else Tap
            result._iterator = tap(result._iterator, self)
            _on_close(result.response, self)
        else:
            self.answered(result)


def _all_fields(
    op: str, body: Fields, host: str, answer: Read, error: Optional[BaseException], given: Fields
) -> Fields:
    out = read.request_fields(op, body)
    with contextlib.suppress(Exception):  # where the answer has an unknown shape, the call is recorded without it
        out.update(answer())
    out.setdefault("model", out.get("response_model"))
    out["provider"] = provider_of(host, out.get("response_model"), out.get("model"))
    if error is not None:
        out.setdefault("usage_reported", False)
        out.update(read.error_fields(error))
    extra = {**out.get("extra", {}), **given.get("extra", {})}
    out.update(given)  # fields that the app set by context() win over those of the request
    return {**out, "extra": extra} if extra else out


def _cancelled(op: str, chunks: List[Any], body: Fields) -> Fields:
    fields = openai_streams.stream_fields(op, chunks, body)
    return fields if openai_streams.is_whole(op, fields, chunks) else {**fields, "status": "cancelled"}


def _is_hidden(chunk: Any) -> bool:
    return not getattr(chunk, "choices", True) and getattr(chunk, "usage", None) is not None


def _remove_usage_key(chunk: Any) -> None:
    """Remove ``usage: null`` from a chunk: it is there only because the emitter requested the usage."""
    if getattr(chunk, "usage", 0) is None:
        with contextlib.suppress(Exception):
            chunk.__pydantic_fields_set__.discard("usage")


class Tap:
    """Iterates a stream's own iterator and stores its chunks; hides the chunk that the app did not request."""

    def __init__(self, inner: Any, recording: Recording) -> None:
        self._inner = inner
        self._recording = recording

    def _pass(self, chunk: Any) -> bool:
        self._recording.reading = False
        with contextlib.suppress(Exception):
            self._recording.chunk(chunk)
            if self._recording.hide_usage:
                if _is_hidden(chunk):
                    return False
                _remove_usage_key(chunk)
        return True

    def _ended(self, error: Optional[BaseException] = None) -> None:
        self._recording.reading = False
        with contextlib.suppress(Exception):
            self._recording.finished(error)

    def __iter__(self) -> "Tap":
        return self

    def __next__(self) -> Any:
        while True:
            self._recording.reading = True
            try:
                chunk = next(self._inner)
            except StopIteration:
                self._ended()
                raise
            except BaseException as error:
                self._ended(error)
                raise
            if self._pass(chunk):
                return chunk

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._recording.abandoned()


class AsyncTap(Tap):
    """The same of an asynchronous iterator."""

    def __aiter__(self) -> "AsyncTap":
        return self

    async def __anext__(self) -> Any:
        while True:
            self._recording.reading = True
            try:
                chunk = await self._inner.__anext__()
            except StopAsyncIteration:
                self._ended()
                raise
            except BaseException as error:
                self._ended(error)
                raise
            if self._pass(chunk):
                return chunk


def _on_close(response: Any, recording: Recording) -> None:
    """Record what was received when the app closes ``response`` (of httpx), through any object that holds it.

    A stream of the SDK is part of a reference cycle already, so one more reference does not delay its release.
    """
    close, close_async = response.close, response.aclose

    def ended() -> None:
        if not recording.reading:
            with contextlib.suppress(Exception):
                recording.abandoned()

    def closed() -> None:
        ended()
        close()

    async def closed_async() -> None:
        ended()
        await close_async()

    response.close, response.aclose = closed, closed_async
