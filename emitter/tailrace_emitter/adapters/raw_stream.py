"""Copies the body of a raw HTTP response while the app reads it: ``with_raw_response`` and streams of these.

An app that asks for the raw response reads its bytes itself, or lets the SDK parse them later. httpx hands every way
of reading out through ``iter_bytes`` (``aiter_bytes``), so the bytes are copied there.
"""

import contextlib
import json
import re
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, Mapping, Optional

from tailrace_emitter.adapters import openai_fields as read
from tailrace_emitter.adapters import openai_streams
from tailrace_emitter.adapters.openai_media import events

MAX_BYTES = 8 * 1024 * 1024
"""Most bytes of a body that are kept; what follows them in a longer one is not recorded."""
MAX_FRAME = 16 * 1024
"""Most bytes of one server-sent event that are held back until it is complete."""
_END = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
"""An empty line ends an event; lines end in CR, LF or both: https://html.spec.whatwg.org/#parsing-an-event-stream"""
_END_BYTES = 3
"""Most bytes of the end of an event that may be in one piece while the rest of it is in the next."""
_BINARY = ("audio/", "image/", "video/", "application/octet-stream")
Ended = Callable[..., None]


class _Body:
    """The bytes so far, and one call of ``ended`` at the end. The bytes of audio and images are not kept."""

    def __init__(self, ended: Ended, begun: Callable[[], None], content_type: str) -> None:
        self._ended, self._begun = ended, begun
        self._max = 0 if content_type.startswith(_BINARY) else MAX_BYTES
        self._pieces: List[bytes] = []
        self._size = 0
        self._done = False

    def add(self, piece: bytes) -> None:
        if not self._size:
            self._begun()
        self._size += len(piece)
        if self._size <= self._max:
            self._pieces.append(piece)

    def end(self, error: Optional[BaseException] = None, *, whole: bool = True) -> None:
        if not self._done:
            self._done = True
            with contextlib.suppress(Exception):  # a failure of the recording must not reach the app
                self._ended(b"".join(self._pieces), error, whole=whole)

    def __del__(self) -> None:
        self.end(whole=False)


class _Frames:
    """Server-sent events one by one, without the chunk of usage that the app did not ask for.

    An event longer than ``MAX_FRAME`` is no such chunk: it is passed on unchanged.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._passing = False

    def pass_on(self, piece: bytes) -> bytes:
        """The events that are complete by now, as bytes for the app."""
        known, text = max(0, len(self._rest) - _END_BYTES), self._rest + piece
        shown, start = [], 0
        for end in _END.finditer(text, known):
            shown.append(self._shown(text[start : end.end()]))
            start, self._passing = end.end(), False
        self._rest = text[start:]
        if self._passing or len(self._rest) > MAX_FRAME:
            self._passing = True
            shown.append(self._rest[:-_END_BYTES])
            self._rest = self._rest[-_END_BYTES:]
        return b"".join(shown)

    def rest(self) -> bytes:
        """Return what follows the last complete event, at the end of the body."""
        rest, self._rest = self._rest, b""
        return self._shown(rest)

    def _shown(self, frame: bytes) -> bytes:
        return frame if self._passing or not _only_usage(frame) else b""


class _Unchanged:
    """Passes the bytes on unchanged."""

    def pass_on(self, piece: bytes) -> bytes:
        return piece

    def rest(self) -> bytes:
        return b""


def _only_usage(frame: bytes) -> bool:
    if b'"usage"' not in frame:
        return False
    try:
        chunk = json.loads(frame.strip().partition(b"data:")[2])
        return chunk.get("choices") == [] and chunk.get("usage") is not None
    except (ValueError, AttributeError):
        return False


def tap(response: Any, ended: Ended, begun: Callable[[], None], *, hide_usage: bool = False) -> None:
    """Call ``ended(body, error, whole=...)`` once, when the app has read ``response``, closed it or dropped it.

    ``hide_usage``: the emitter requested the usage and the app did not; the chunk that holds only usage is hidden from
        the app.
    """
    content_type = str(response.headers.get("content-type", ""))
    body = _Body(ended, begun, content_type)
    frames: Any = _Frames() if hide_usage and "event-stream" in content_type else _Unchanged()
    iterate, iterate_async = response.iter_bytes, response.aiter_bytes
    close, close_async = response.close, response.aclose

    def iter_bytes(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        with _Recording(body):
            for piece in iterate(*args, **kwargs):
                body.add(piece)
                if shown := frames.pass_on(piece):
                    yield shown
            if shown := frames.rest():
                yield shown

    async def aiter_bytes(*args: Any, **kwargs: Any) -> AsyncIterator[bytes]:
        with _Recording(body):
            async for piece in iterate_async(*args, **kwargs):
                body.add(piece)
                if shown := frames.pass_on(piece):
                    yield shown
            if shown := frames.rest():
                yield shown

    def closed() -> None:
        close()
        if response.is_closed and not response.is_stream_consumed:
            body.end(whole=_is_complete(body))

    async def aclosed() -> None:
        await close_async()
        if response.is_closed and not response.is_stream_consumed:
            body.end(whole=_is_complete(body))

    response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes
    response.close, response.aclose = closed, aclosed


class _Recording:
    """Ends the recording of ``body`` with the block: after its last byte, with an error, or where the app stopped."""

    def __init__(self, body: _Body) -> None:
        self._body = body

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Optional[BaseException], trace: Any) -> None:
        if isinstance(error, GeneratorExit):
            self._body.end(whole=_is_complete(self._body))
        else:
            self._body.end(error)


def _is_complete(body: _Body) -> bool:
    """Whether the marker of the stream's end was read, although the app stopped before the end of the body."""
    return b"[DONE]" in b"".join(body._pieces[-2:])


def parts(body: bytes) -> List[Dict[str, Any]]:
    """The chunks of a body: server-sent events, or one JSON answer; empty for a body that is neither."""
    text = body.decode("utf-8", "replace")
    if text.lstrip().startswith("{"):
        with contextlib.suppress(ValueError):
            return [json.loads(text)]
        return []
    return list(events(text))


def fields(op: str, body: bytes, content_type: str, asked: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the fields of a call from the body of its answer."""
    text = body.decode("utf-8", "replace").lstrip()
    if text.startswith("{"):
        return read.answer_fields(op, json.loads(text), asked)
    if "event-stream" in content_type or text.startswith(("data:", "event:")):
        return openai_streams.stream_fields(op, events(text), asked)
    return read.answer_fields(op, text, asked)


def partial_fields(op: str, body: bytes, asked: Mapping[str, Any]) -> Dict[str, Any]:
    """Return the fields of a call whose body was read in part: cancelled, unless the answer in it is complete."""
    chunks = parts(body)
    found = openai_streams.stream_fields(op, chunks, asked)
    return found if openai_streams.is_whole(op, found, chunks) else {**found, "status": "cancelled"}
