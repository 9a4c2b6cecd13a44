"""A running request of a client: the owner, the times, the chunks of a stream; one event at its end.

The app's thread only stores references. The background thread reads the objects, by functions of the adapter.
"""

import contextlib
import sys
import time
import weakref
from typing import Any, Callable, Dict, List, Optional

from tailrace_emitter.context import around_here
from tailrace_emitter.emitter import Emitter

Fields = Dict[str, Any]
Read = Callable[[], Fields]
_FRAMES = 25
"""Most frames of the stack that are searched for a gateway that reports the call itself."""


def default_emitter() -> Emitter:
    """The emitter of a client that was given none."""
    from tailrace_emitter import default

    return default()


def reported_by_litellm() -> bool:
    """Whether LiteLLM makes the current call: it reports the call itself where its logger is on."""
    if "litellm" not in sys.modules:
        return False
    from tailrace_emitter import instrumentation

    if not instrumentation.litellm_reports():
        return False
    frame: Any = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            return False
        if frame.f_globals.get("__name__", "").startswith("litellm."):
            return True
        frame = frame.f_back
    return False


def error_fields(error: BaseException, code: Any = None) -> Fields:
    """How a call failed: the SDK's class, the provider's error code (``code``), the message."""
    described: Fields = {"type": type(error).__name__, "message": str(error)}
    if isinstance(code, (str, int)):
        described["code"] = str(code)
    ended = isinstance(error, Exception) and type(error).__name__ != "CancelledError"
    return {"error": described, "status": "error" if ended else "cancelled"}


class Timed:
    """When a request began, when the first piece of its answer came, and the chunks of its stream."""

    def __init__(self) -> None:
        self.chunks: List[Any] = []
        self._ttft_ms: Optional[float] = None
        self._done = False
        self._begun = time.perf_counter()

    def _ms(self) -> float:
        return (time.perf_counter() - self._begun) * 1000

    def begun(self) -> None:
        """The first chunk of a stream was received."""
        if self._ttft_ms is None:
            self._ttft_ms = self._ms()

    def chunk(self, chunk: Any) -> None:
        """Store a chunk of a stream."""
        self.begun()
        self.chunks.append(chunk)


class Recording(Timed):
    """A request that is not finished.

    Args:
        emitter: records the call.
        request: reads what was asked for; it runs in the background thread.
        code_of: reads the provider's error code from an error of its SDK.
        provider_of: reads the provider from the fields of the ended call.
        host: the address of the request, without path.
    """

    def __init__(
        self,
        emitter: Emitter,
        request: Read,
        *,
        host: Optional[str],
        provider_of: Callable[[Fields], Optional[str]],
        code_of: Callable[[BaseException], Any],
    ) -> None:
        self._emitter = emitter
        self._context = around_here()  # of the request: a stream may be read under another one's
        self._request, self._provider_of, self._code_of = request, provider_of, code_of
        self._host = host
        self.retries: List[Optional[int]] = [None]
        super().__init__()

    def end(self, answer: Read, error: Optional[BaseException] = None) -> None:
        """Record the call, once; ``answer`` is read in the background thread."""
        if self._done:
            return
        self._done = True
        given: Fields = {"latency_ms": self._ms(), "host": self._host}
        if self.retries[0] is not None:
            given["retries"] = self.retries[0]
        if self._ttft_ms is not None:
            given["ttft_ms"] = self._ttft_ms
        request, provider_of, code_of = self._request, self._provider_of, self._code_of

        def lazy(fields: Fields) -> Fields:
            out = request()
            # where the answer has an unknown shape, the call is recorded without it
            with contextlib.suppress(Exception):
                out.update(answer())
            out["provider"] = provider_of(out)
            if error is not None:
                out.setdefault("usage_reported", False)
                out.update(error_fields(error, code_of(error)))
            extra = {**out.get("extra", {}), **fields.get("extra", {})}
            out.update(fields)  # fields that the app set by context() win over those of the request
            return {**out, "extra": extra} if extra else out

        self._emitter.record(given, lazy, context=self._context)


class Tap:
    """Iterates a stream's own iterator; stores its items and how it ended.

    Args:
        inner: the SDK's iterator.
        recording: gets every item.
        read: reads the items as the fields of one answer, in the background thread.
        is_whole: whether the items hold the end of the answer, although the app stopped reading.
        keep: returns what is kept of an item; by default the item itself.
    """

    def __init__(
        self,
        inner: Any,
        recording: Recording,
        read: Callable[[List[Any]], Fields],
        is_whole: Callable[[List[Any]], bool],
        *,
        keep: Callable[[Any], Any] = lambda item: item,
    ) -> None:
        self._inner, self._recording = inner, recording
        self._read, self._is_whole, self._keep = read, is_whole, keep

    def _passed(self, item: Any) -> Any:
        with contextlib.suppress(Exception):
            self._recording.chunk(self._keep(item))
        return item

    def _ended(self, error: Optional[BaseException] = None) -> None:
        chunks, read = self._recording.chunks, self._read
        with contextlib.suppress(Exception):
            self._recording.end(lambda: read(chunks), error)

    def abandoned(self) -> None:
        """The app stopped reading."""
        chunks, read, is_whole = self._recording.chunks, self._read, self._is_whole

        def cancelled() -> Fields:
            fields = read(chunks)
            return fields if is_whole(chunks) else {**fields, "status": "cancelled"}

        with contextlib.suppress(Exception):
            self._recording.end(cancelled)

    def __iter__(self) -> "Tap":
        return self

    def __next__(self) -> Any:
        try:
            item = next(self._inner)
        except StopIteration:
            self._ended()
            raise
        except BaseException as error:
            self._ended(error)
            raise
        return self._passed(item)

    def __del__(self) -> None:
        self.abandoned()


class AsyncTap(Tap):
    """The same of an asynchronous iterator."""

    def __aiter__(self) -> "AsyncTap":
        return self

    async def __anext__(self) -> Any:
        try:
            item = await self._inner.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise
        except BaseException as error:
            self._ended(error)
            raise
        return self._passed(item)


def on_close(stream: Any, tap: Tap) -> None:
    """Record what ``tap`` received when the app closes ``stream``, whose ``close`` may be a coroutine.

    The new method does not hold the stream: one that the app drops is freed, and its connection closed, at once.
    """
    held, tapped, close = weakref.ref(stream), weakref.ref(tap), type(stream).close

    def closed() -> Any:
        passed = tapped()
        if passed is not None:
            passed.abandoned()
        return close(held())

    stream.close = closed
