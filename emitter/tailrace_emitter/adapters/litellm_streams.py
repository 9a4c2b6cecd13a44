"""Streams through LiteLLM that the app stops reading early.

LiteLLM makes no callback for them, so they are recorded here.

LiteLLM's stream holds the request, and the request holds the stream, so one that is dropped is recorded when Python's
collector finds it, when it is closed, or when the process ends.
"""

import contextlib
import functools
import time
import weakref
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

from tailrace_emitter.adapters.openai_streams import is_whole, stream_fields

Fields = Dict[str, Any]
MARK = "_tailrace_left"
"""Set in LiteLLM's facts of a request whose stream was recorded as left."""
_ENDED = "_tailrace_ended"
_open: "weakref.WeakSet[Any]" = weakref.WeakSet()


class Left(NamedTuple):
    """What was received of a stream when the app stopped reading it."""

    request: Mapping[str, Any]
    """LiteLLM's facts of the request."""
    logging: Any
    """LiteLLM's object for callbacks."""
    chunks: List[Any]
    """Of a chat completion; of a response one answer, as far as it was received."""
    at: float
    """When the app stopped reading, seconds since 1970."""

    def payload(self) -> Mapping[str, Any]:
        """Return the payload that LiteLLM would have passed to a callback, without an answer."""
        from datetime import datetime

        from litellm.litellm_core_utils.litellm_logging import get_standard_logging_object_payload

        made = get_standard_logging_object_payload(
            kwargs=dict(self.request),
            init_response_obj={},
            start_time=self.request.get("start_time") or self.logging.start_time,
            end_time=datetime.fromtimestamp(self.at),  # noqa: DTZ006 - LiteLLM's times are local ones without a zone
            logging_obj=self.logging,
            status="success",
        )
        return made or {}  # type: ignore[return-value, unused-ignore]

    def answer(self) -> Fields:
        """Return what was received: text, tools, usage where a chunk has it; ``cancelled`` unless it was complete."""
        fields = stream_fields("chat", self.chunks)
        return fields if is_whole("chat", fields, self.chunks) else {**fields, "status": "cancelled"}


def watch(left: Callable[[Left], None]) -> None:
    """Call ``left`` for every stream of LiteLLM that is not read to its end; installed once for a process."""
    from litellm.litellm_core_utils.streaming_handler import CustomStreamWrapper
    from litellm.responses import streaming_iterator as responses

    for kind, read in (
        (CustomStreamWrapper, "__next__"),
        (CustomStreamWrapper, "__anext__"),
        (responses.SyncResponsesAPIStreamingIterator, "__next__"),
        (responses.ResponsesAPIStreamingIterator, "__anext__"),
    ):
        _watch_reads(kind, read)
    for made in (CustomStreamWrapper, responses.BaseResponsesAPIStreamingIterator):
        _watch_life(made, left)


def left_at_exit(left: Callable[[Left], None]) -> None:
    """Record the streams that are open when the process ends."""
    for stream in list(_open):
        _report_left(stream, left)


def has_usage(chunks: Any) -> bool:
    """Whether a chunk of a stream holds usage; LiteLLM counts the tokens itself where none does."""
    return any(getattr(chunk, "usage", None) is not None for chunk in chunks)


def _watch_reads(kind: Any, name: str) -> None:
    """Mark a stream that has ended or failed: LiteLLM reports it then."""
    read = vars(kind)[name]
    if hasattr(read, "__tailrace__"):
        return

    if name == "__anext__":

        @functools.wraps(read)
        async def next_async(self: Any) -> Any:
            try:
                return await read(self)
            except Exception:
                setattr(self, _ENDED, True)
                raise

        noted: Any = next_async
    else:

        @functools.wraps(read)
        def next_(self: Any) -> Any:
            try:
                return read(self)
            except Exception:
                setattr(self, _ENDED, True)
                raise

        noted = next_
    noted.__tailrace__ = read
    setattr(kind, name, noted)


def _watch_life(kind: Any, left: Callable[[Left], None]) -> None:
    """Check a stream when it is made, closed and freed."""
    begin, end, close = kind.__init__, vars(kind).get("__del__"), vars(kind).get("aclose")
    if hasattr(begin, "__tailrace__"):
        return

    @functools.wraps(begin)
    def begun(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        with contextlib.suppress(Exception):
            if not _reads_another(self):
                _open.add(self)

    def freed(self: Any) -> None:
        if end is not None:
            end(self)
        _report_left(self, left)

    begun.__tailrace__ = begin  # type: ignore[attr-defined]
    kind.__init__, kind.__del__ = begun, freed
    if close is not None:

        @functools.wraps(close)
        async def closed(self: Any) -> Any:
            try:
                return await close(self)
            finally:
                _report_left(self, left)

        kind.aclose = closed


def _report_left(stream: Any, left: Callable[[Left], None]) -> None:
    """Pass ``stream`` to ``left``, unless LiteLLM reports it, or it was passed already."""
    with contextlib.suppress(Exception):  # a failure must not reach the app, nor stop the exit of the interpreter
        if getattr(stream, _ENDED, False) or getattr(stream, "completed_response", None) is not None:
            return
        setattr(stream, _ENDED, True)
        if _reads_another(stream):
            return
        logging = stream.logging_obj
        request = dict(logging.model_call_details)
        logging.model_call_details[MARK] = True
        request.pop("original_response", None)
        left(Left(request, logging, _received(stream), time.time()))


def _reads_another(stream: Any) -> bool:
    """Whether a stream only wraps another one, which is checked itself: those of LiteLLM's router and proxy."""
    kind = type(stream)
    own = [name for name in ("__next__", "__anext__") if not hasattr(getattr(kind, name, None), "__tailrace__")]
    return kind.__module__ == "litellm.router" or (hasattr(kind, "chunk_creator") and bool(own))


def _received(stream: Any) -> List[Any]:
    chunks: Optional[List[Any]] = getattr(stream, "chunks", None)
    if chunks is not None:
        return list(chunks)
    text = getattr(stream, "_generated_content", "")
    model = getattr(getattr(stream, "_created_response", None), "model", None)
    return [{"model": model, "choices": [{"index": 0, "delta": {"content": text}}]}]
