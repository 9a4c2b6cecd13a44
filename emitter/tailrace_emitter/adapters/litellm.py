"""LiteLLM's callback: one event per call, read from its standard logging payload.

The payload also holds the caller's address, the key's hash and the user agent: these are never read.
"""

import contextlib
import functools
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging

from tailrace_emitter.adapters import Patches, litellm_moderation, litellm_streams
from tailrace_emitter.adapters.litellm_fields import fields_of
from tailrace_emitter.adapters.recording import default_emitter
from tailrace_emitter.context import around_here
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.instrumentation import litellm_reports
from tailrace_emitter.shutdown import before_exit
from tailrace_emitter.span import current

_SEEN = 4096
_LISTS = (
    *("callbacks", "input_callback", "success_callback", "failure_callback"),
    *("_async_input_callback", "_async_success_callback", "_async_failure_callback"),
)
"""LiteLLM's lists of callbacks."""
_IN_FLIGHT = 65_536
"""Requests whose context is stored.

A request beyond that is recorded without a context, never with that of another request.
"""
_contexts: "OrderedDict[str, _Owner]" = OrderedDict()
"""LiteLLM's call id -> owner of the request; removed when the last request of that id has ended."""


class _Owner(NamedTuple):
    """Owner of a request, and how many requests of its id are open: a retry begins before the failure is reported."""

    context: Mapping[str, Any]
    """What ``context(...)`` held in the thread or task that made it."""
    requests: int


def _remember(call_id: Any) -> None:
    if not call_id:
        return
    with contextlib.suppress(Exception):  # a failure of the recording must not reach the gateway
        known = _contexts.get(str(call_id))
        _contexts[str(call_id)] = _Owner(around_here(), 1 + (known.requests if known else 0))
        while len(_contexts) > _IN_FLIGHT:
            _contexts.popitem(last=False)


def _forget_owner(call_id: Any) -> Mapping[str, Any]:
    """Return the context of a request that has ended; it is kept only while another of the same id goes on."""
    known = _contexts.pop(str(call_id), None)
    if known is None:
        return {}
    if known.requests > 1:
        _contexts[str(call_id)] = known._replace(requests=known.requests - 1)
    return known.context


def _watch_requests() -> None:
    """Read the context where LiteLLM begins a request: its callbacks run in other threads, or in other tasks."""
    begin = Logging.__init__
    if hasattr(begin, "__tailrace__"):
        return

    @functools.wraps(begin)
    def begun(self: Any, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        _remember(getattr(self, "litellm_call_id", None))
        with contextlib.suppress(Exception):
            span = current()
            if span is not None and litellm_reports():
                span.counted_inside(getattr(self, "model", None))

    begun.__tailrace__ = begin  # type: ignore[attr-defined]
    Logging.__init__ = begun  # type: ignore[method-assign, unused-ignore]


def _run_queued() -> None:
    """Run the callbacks that LiteLLM has queued: those of an event loop that ended before they ran.

    LiteLLM does so at the end of the process as well, but after the emitter has closed where that was made later.
    """
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    GLOBAL_LOGGING_WORKER._flush_on_exit()  # type: ignore[no-untyped-call, unused-ignore]


def _emitters() -> List[Emitter]:
    """The emitters of the loggers that are in LiteLLM's lists of callbacks now, each once."""
    import litellm

    held = [c for name in _LISTS for c in list(getattr(litellm, name, None) or ()) if isinstance(c, TailraceLogger)]
    return list({id(logger): logger.emitter() for logger in held}.values())


def _record_left(stream: litellm_streams.Left) -> None:
    """Record a stream that the app left."""
    context = _forget_owner(stream.request.get("litellm_call_id"))

    def lazy(given: Dict[str, Any]) -> Dict[str, Any]:
        fields = {**fields_of({**stream.payload(), "stream": True}), "usage_reported": False}
        for name in ("tokens", "cost_reported", "units"):
            fields.pop(name, None)
        fields.update(stream.answer())
        if _hides_texts():
            fields = {name: value for name, value in fields.items() if name not in ("input", "output", "tools")}
        return {**fields, **given}

    for emitter in _emitters():
        emitter.record({}, lazy, context=context)


def _hides_texts() -> bool:
    """Whether the app asked LiteLLM to keep messages and answers from callbacks."""
    import litellm

    return bool(litellm.turn_off_message_logging)


def _record_open_streams() -> None:
    litellm_streams.left_at_exit(_record_left)


class TailraceLogger(CustomLogger):  # type: ignore[misc, unused-ignore]
    """``litellm.callbacks = [TailraceLogger()]``; records with the default emitter, or the one given."""

    def __init__(self, emitter: Optional[Emitter] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with contextlib.suppress(Exception):
            _watch_requests()
        with contextlib.suppress(Exception):
            litellm_streams.watch(_record_left)
            litellm_moderation.watch(_emitters)
        before_exit(_run_queued)
        before_exit(_record_open_streams)
        self._emitter = emitter
        self._seen: OrderedDict[str, None] = OrderedDict()

    def emitter(self) -> Emitter:
        """Return the emitter that records; the default one where none was given."""
        return self._emitter or default_emitter()

    def _record(self, kwargs: Any) -> None:
        try:
            payload = kwargs.get("standard_logging_object")
            if not isinstance(payload, Mapping) or self._is_repeated(payload, kwargs):
                return
            if litellm_streams.MARK in kwargs:  # its stream was recorded when the app left it
                return
            raw = kwargs.get("original_response")

            def lazy(given: Dict[str, Any]) -> Dict[str, Any]:
                return {**fields_of(payload, raw), **given}

            self.emitter().record({}, lazy, context=_forget_owner(kwargs.get("litellm_call_id")))
        except Exception:  # noqa: BLE001 - a failure of the recording must not reach the gateway
            pass

    def _is_repeated(self, payload: Mapping[str, Any], kwargs: Mapping[str, Any]) -> bool:
        """LiteLLM may call the sync and the async hook for one call; the first is recorded.

        The call id alone does not identify a call: a caller of the proxy chooses it (``x-litellm-call-id``).
        """
        key = f"{kwargs.get('litellm_call_id')}/{payload.get('id')}/{payload.get('status')}"
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return False

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """A request is about to be sent. This stores its context too, in case LiteLLM changes how requests begin."""
        with contextlib.suppress(Exception):
            call_id = kwargs.get("litellm_call_id")
            if str(call_id) not in _contexts:
                _remember(call_id)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call answered."""
        self._record(kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call failed."""
        self._record(kwargs)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call answered."""
        self._record(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call failed."""
        self._record(kwargs)


def instrument(patches: Patches) -> None:
    """Add a logger to LiteLLM's callbacks, unless the app has added one."""
    import litellm

    if any(isinstance(c, TailraceLogger) for c in litellm.callbacks):
        return
    logger = TailraceLogger(patches.emitter)
    litellm.callbacks.append(logger)
    for name in _LISTS:
        patches.on_undo(functools.partial(_forget, name, logger))


def _forget(name: str, logger: TailraceLogger) -> None:
    """Take the logger out of one of LiteLLM's lists of callbacks: a call copies it from ``callbacks`` to the others."""
    import litellm

    held = getattr(litellm, name, None)
    while isinstance(held, list) and logger in held:
        held.remove(logger)
