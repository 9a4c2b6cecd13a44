"""Responses that run without their request (``background=True``): one event, when their end is first seen.

The end may be seen by the stream of the request, by ``responses.retrieve``, or by ``responses.cancel``; more than once,
in this process or in another. The event's id follows from the response's, so that it counts once. It is on the owner
of the request; where another process made that, on the owner of who retrieves it first.
"""

import contextlib
from collections import OrderedDict
from functools import partial
from typing import Any, Mapping, Optional

from tailrace_emitter.adapters import openai_fields as read
from tailrace_emitter.adapters import raw_stream
from tailrace_emitter.adapters.openai_recording import Fields, Recording
from tailrace_emitter.adapters.sdk_values import part, plain
from tailrace_emitter.ids import id_of

_MAX = 16_384
"""Most responses that are stored, of the running ones and of the ended ones; the oldest is evicted first."""
_running: "OrderedDict[str, Recording]" = OrderedDict()
_ended: "OrderedDict[str, None]" = OrderedDict()


class BackgroundRecording(Recording):
    """The request that began a response, or (``retrieves``) one that asks for it again."""

    retrieves = False

    def failed(self, error: BaseException) -> None:
        """A request that began nothing is a failed call; one that retrieves is no call."""
        if not self.retrieves:
            super().failed(error)

    def answered(self, answer: Any) -> None:
        """The response as it is now."""
        _follow(self, answer)

    def finished(self, error: Optional[BaseException] = None) -> None:
        """A stream of its events ended; the response may still run."""
        found = _last_response(self.chunks)
        if found is not None:
            _follow(self, found)
        elif error is not None:
            self.failed(error)

    def abandoned(self) -> None:
        """The app stopped reading; the response still runs."""
        self.finished()

    def body_ended(self, body: bytes, error: Optional[BaseException], *, whole: bool, content_type: str) -> None:
        """A raw response was read, closed or dropped."""
        self.chunks = raw_stream.parts(body)
        self.finished(error)


class RetrieveRecording(BackgroundRecording):
    """A request that asks for a response that another request began."""

    retrieves = True


def _last_response(chunks: Any) -> Any:
    """The response in the last chunk that holds one, or the only chunk where it is one."""
    for chunk in reversed(chunks):
        if part(chunk, "object") == "response":
            return chunk
        if part(chunk, "response") is not None:
            return part(chunk, "response")
    return None


def _follow(recording: Recording, answer: Any) -> None:
    """Record a response that has ended; store the owner of one that still runs."""
    response_id = part(answer, "id")
    if not isinstance(response_id, str) or not _is_background(recording, response_id, answer):
        return
    if part(answer, "status") not in read.ENDED:
        if not getattr(recording, "retrieves", False):
            _remember(_running, response_id, recording)
        return
    if response_id in _ended:
        return
    _remember(_ended, response_id, None)
    begun_by = _running.pop(response_id, recording)
    if begun_by is not recording:
        begun_by.chunks = []
    created = part(answer, "created_at")
    made_ms = int(created * 1000) if isinstance(created, (int, float)) else 0
    begun_by.end(partial(_fields, answer, dict(begun_by.body)), event_id=id_of(f"openai:{response_id}", made_ms))


def _is_background(recording: Recording, response_id: str, answer: Any) -> bool:
    """Whether no other event counts this response: that of a request which waits for its answer does."""
    asked = not getattr(recording, "retrieves", False)
    return asked or response_id in _running or bool(part(answer, "background"))


def _remember(held: "OrderedDict[str, Any]", response_id: str, value: Any) -> None:
    held[response_id] = value
    while len(held) > _MAX:
        held.popitem(last=False)


def _fields(answer: Any, asked: Mapping[str, Any]) -> Fields:
    """The fields of an ended response, with those of its request where that is unknown.

    Its times are the provider's.
    """
    found = plain(answer)
    request = {} if asked else read.request_fields("chat", {k: v for k, v in found.items() if k != "input"})
    return {**request, **read.answer_fields("chat", found), **_times(found)}


def _times(found: Mapping[str, Any]) -> Fields:
    fields: Fields = {}
    with contextlib.suppress(KeyError, TypeError, ValueError):
        fields["ts"] = float(found["created_at"])
        fields["latency_ms"] = (float(found["completed_at"]) - float(found["created_at"])) * 1000
    return fields
