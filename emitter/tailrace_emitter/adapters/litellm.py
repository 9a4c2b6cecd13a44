"""LiteLLM's callback: one event per call, read off its standard logging payload.

The payload also holds the caller's address, the key's hash and the user agent: those are left where they are.
"""

import contextlib
import functools
import re
from collections import OrderedDict
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging

from tailrace_emitter.adapters import Patches, litellm_moderation, litellm_streams
from tailrace_emitter.adapters.openai_fields import answer_fields
from tailrace_emitter.adapters.recording import default_emitter
from tailrace_emitter.adapters.usage import answered_for_nothing, billed_searches, tokens_of
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
"""Requests whose context is remembered. A request beyond that is recorded without one, never under another's."""
_contexts: "OrderedDict[str, _Owner]" = OrderedDict()
"""LiteLLM's call id -> who made the request; gone when the last request of that id has ended."""
_OPS = {
    "embedding": "embeddings",
    "text_completion": "text_completion",
    "image_generation": "image_generation",
    "image_edit": "image_generation",
    "speech": "speech",
    "transcription": "transcription",
    "moderation": "moderation",
    "rerank": "rerank",
}
"""LiteLLM's call type, without the ``a`` of its asynchronous form -> operation; anything else is a chat."""


_COUNTS = re.compile(
    r'(?<!\\)"(?:usage|usage_?metadata|usage_info|billed_units|(?:prompt_)?eval_count|(?:prompt|generation|input|output|'
    r'generated)_token_count|inputTextTokenCount|(?:prompt|input|generated)_?tokens)"\s*:\s*[^n\s]',
    re.IGNORECASE,
)
"""The keys under which a provider's answer (JSON) reports usage, with a value other than null."""
_OF_PROXY = ("headers", "used_client_oauth_token")
"""What LiteLLM's proxy adds to the metadata of a request: the caller's headers stay out."""
_COUNTED = ("chat", "text_completion", "embeddings")
"""Operations whose tokens LiteLLM counts itself where the provider reports none."""


class _Owner(NamedTuple):
    """Who made a request, and how many requests of its id go on: a retry begins before the failure is reported."""

    context: Mapping[str, Any]
    """What ``context(...)`` held in the thread or task that made it."""
    requests: int


def _remember(call_id: Any) -> None:
    if not call_id:
        return
    with contextlib.suppress(Exception):  # never in the gateway's way
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


def _host(base: Any) -> Optional[str]:
    if not isinstance(base, str) or not base:
        return None
    rest = base.split("://", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1]
    return rest.split("?", 1)[0] or None


def _dict(value: Any) -> Dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _ms(later: Any, sooner: Any) -> Optional[float]:
    if isinstance(later, (int, float)) and isinstance(sooner, (int, float)) and later >= sooner:
        return float(later - sooner) * 1000
    return None


def reports_usage(raw: Any) -> bool:
    """Whether the provider reported usage, by LiteLLM's ``original_response``; True where that does not show it.

    Args:
        raw: the answer's JSON, or LiteLLM's stream of chunks.
    """
    if isinstance(raw, str) and raw.lstrip()[:1] == "{":
        return _COUNTS.search(raw) is not None
    chunks = getattr(raw, "chunks", None)
    return litellm_streams.has_usage(chunks) if chunks else True


def fields_of(payload: Mapping[str, Any], raw: Any = None) -> Dict[str, Any]:
    """``standard_logging_object`` as fields of a call; addresses, key hashes and user agents stay out.

    Args:
        payload: of LiteLLM.
        raw: LiteLLM's ``original_response``, which shows whether the usage in ``payload`` is the provider's.
    """
    meta = _dict(payload.get("metadata"))
    failed = payload.get("status") == "failure"
    call_type = str(payload.get("call_type") or "")
    op = _OPS.get(call_type) or _OPS.get(call_type[1:] if call_type.startswith("a") else "", "chat")
    response = payload.get("response")
    fields: Dict[str, Any] = {}
    if isinstance(response, Mapping):
        asked = _dict(payload.get("model_parameters"))
        asked.update(input=payload.get("messages"), model=payload.get("model"))
        fields = answer_fields(op, dict(response), asked)
    usage = meta.get("usage_object") or _pages(response)
    tokens: Dict[str, Any] = _billed(dict(tokens_of(usage)), payload.get("model")) if usage else {}
    if fields.get("units") and op == "image_generation":
        tokens.pop("units", None)  # LiteLLM counts the images; the units have their size and quality as well
    if not tokens and not failed:
        tokens = {"input": payload.get("prompt_tokens"), "output": payload.get("completion_tokens")}
    invented = op in _COUNTED and not payload.get("cache_hit") and not reports_usage(raw)
    if invented or (answered_for_nothing(tokens) and not payload.get("cache_hit")):
        tokens, usage = {}, None  # LiteLLM writes 0, or counts itself, where nothing was reported
        fields.pop("tokens", None)
    parameters = _dict(payload.get("model_parameters"))
    start = payload.get("startTime")
    ttft = _ms(payload.get("completionStartTime"), start) if payload.get("stream") else None
    prompt = _dict(meta.get("prompt_management_metadata"))
    fields.update(
        model=payload.get("model_group") or payload.get("model"),
        provider=payload.get("custom_llm_provider"),
        op=op,
        ts=start,
        latency_ms=_ms(payload.get("endTime"), start),
        ttft_ms=ttft,
        tokens={k: v for k, v in tokens.items() if v is not None} or None,
        usage_reported=bool(usage),
        cost_reported=None if failed or invented or (op == "speech" and _by_audio(payload)) else _cost(payload),
        stream=payload.get("stream") or None,
        host=_host(payload.get("api_base")),
        input=payload.get("messages"),
        temperature=parameters.get("temperature"),
        top_p=parameters.get("top_p"),
        max_tokens=parameters.get("max_completion_tokens") or parameters.get("max_tokens"),
        seed=parameters.get("seed"),
        reasoning_effort=parameters.get("reasoning_effort"),
        team=meta.get("user_api_key_team_alias") or meta.get("user_api_key_team_id"),
        tenant=meta.get("user_api_key_org_id"),
        user=payload.get("end_user") or meta.get("user_api_key_end_user_id") or None,
        trace_id=payload.get("trace_id"),
        tags=[tag for tag in payload.get("request_tags") or () if not str(tag).startswith("User-Agent:")] or None,
        prompt_name=prompt.get("prompt_id"),
    )
    if fields.get("response_model") in (None, payload.get("model_group")):  # the proxy writes the name it was asked by
        fields["response_model"] = payload.get("model")
    if payload.get("cache_hit"):
        fields["cache"] = {"kind": "exact", "saved": payload.get("saved_cache_cost")}
    if failed:
        error = _dict(payload.get("error_information"))
        fields["status"] = "error"
        fields["error"] = {
            "type": error.get("error_class"),
            "code": error.get("error_code") or None,
            "message": error.get("error_message") or payload.get("error_str"),
        }
    rails = payload.get("guardrail_information")
    if isinstance(rails, Mapping):
        rails = [rails]
    if isinstance(rails, list):
        fields["guardrails"] = [_guardrail(_dict(rail)) for rail in rails]
    asked = {name: value for name, value in _dict(meta.get("requester_metadata")).items() if name not in _OF_PROXY}
    session = asked.pop("session_id", None)
    if session is not None:
        fields["session_id"] = session
    if asked:
        fields["extra"] = asked
    return {name: value for name, value in fields.items() if value is not None}


def _pages(response: Any) -> Dict[str, Any]:
    """Return the usage of an OCR answer, which LiteLLM does not hand on as the usage of the call."""
    return _dict(response.get("usage_info")) if isinstance(response, Mapping) else {}


def _billed(tokens: Dict[str, Any], model: Any) -> Dict[str, Any]:
    """Return ``tokens`` with the searches that are billed: LiteLLM counts every query of a grounded answer."""
    for entry in tokens.get("units", ()):
        if entry["unit"] == "web_searches":
            entry["quantity"] = billed_searches(entry["quantity"], model)
    return tokens


def _cost(payload: Mapping[str, Any]) -> Any:
    """Return the cost that LiteLLM reports; its 0 means that it has no price, unless its cache answered."""
    cost = payload.get("response_cost")
    return cost if cost or payload.get("cache_hit") else None


def _by_audio(payload: Mapping[str, Any]) -> bool:
    """Whether speech is billed by the tokens of its audio: no answer reports them, LiteLLM's cost leaves them out."""
    import litellm

    with contextlib.suppress(Exception):  # a model that LiteLLM does not know
        info = litellm.get_model_info(str(payload.get("model")), payload.get("custom_llm_provider"))
        return bool(info.get("output_cost_per_audio_token"))
    return False


def _guardrail(rail: Mapping[str, Any]) -> Dict[str, Any]:
    mode = rail.get("guardrail_mode")
    stage = {"pre_call": "input", "during_call": "input", "post_call": "output"}.get(str(mode), str(mode or ""))
    seconds = rail.get("duration")
    categories = rail.get("violation_categories")
    told: Dict[str, Any] = {
        "name": rail.get("guardrail_name"),
        "stage": stage or None,
        "score": rail.get("risk_score"),
        "category": categories[0] if isinstance(categories, list) and categories else None,
        "ms": seconds * 1000 if isinstance(seconds, (int, float)) else None,
    }
    status = str(rail.get("guardrail_status") or "")
    # LiteLLM's own verdict; anything else is the provider's word and not ours to translate
    if status == "success":
        told["action"] = "pass"
    elif status in ("guardrail_intervened", "blocked"):
        told["action"] = "block"
    elif status in ("failure", "guardrail_failed_to_respond"):
        told["action"] = "error"
    return {name: value for name, value in told.items() if value is not None}


def _emitters() -> List[Emitter]:
    """The emitters of the loggers that are in LiteLLM's lists of callbacks now, each once."""
    import litellm

    held = [c for name in _LISTS for c in list(getattr(litellm, name, None) or ()) if isinstance(c, TailraceLogger)]
    return list({id(logger): logger.emitter() for logger in held}.values())


def _left(stream: litellm_streams.Left) -> None:
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


def _leave_open() -> None:
    litellm_streams.left_at_exit(_left)


class TailraceLogger(CustomLogger):  # type: ignore[misc, unused-ignore]
    """``litellm.callbacks = [TailraceLogger()]``; records with the default emitter, or the one given."""

    def __init__(self, emitter: Optional[Emitter] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with contextlib.suppress(Exception):
            _watch_requests()
        with contextlib.suppress(Exception):
            litellm_streams.watch(_left)
            litellm_moderation.watch(_emitters)
        before_exit(_run_queued)
        before_exit(_leave_open)
        self._emitter = emitter
        self._seen: OrderedDict[str, None] = OrderedDict()

    def emitter(self) -> Emitter:
        """Return the emitter that records; the default one where none was given."""
        return self._emitter or default_emitter()

    def _record(self, kwargs: Any) -> None:
        try:
            payload = kwargs.get("standard_logging_object")
            if not isinstance(payload, Mapping) or self._again(payload, kwargs):
                return
            if litellm_streams.MARK in kwargs:  # its stream was recorded when the app left it
                return
            raw = kwargs.get("original_response")

            def lazy(given: Dict[str, Any]) -> Dict[str, Any]:
                return {**fields_of(payload, raw), **given}

            self.emitter().record({}, lazy, context=_forget_owner(kwargs.get("litellm_call_id")))
        except Exception:  # noqa: BLE001 - never in the gateway's way
            pass

    def _again(self, payload: Mapping[str, Any], kwargs: Mapping[str, Any]) -> bool:
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
        """A request is about to be sent: a second way to its context, should LiteLLM change how requests begin."""
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
