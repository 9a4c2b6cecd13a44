"""LiteLLM's callback: one event per call, read off its standard logging payload.

The payload also holds the caller's address, the key's hash and the user agent: those are left where they are.
"""

from collections import OrderedDict
from typing import Any, Dict, Mapping, Optional

from litellm.integrations.custom_logger import CustomLogger

from tailrace_emitter.adapters.openai_fields import chat_fields
from tailrace_emitter.adapters.usage import tokens_of
from tailrace_emitter.emitter import Emitter

_SEEN = 4096
_OPS = {"embedding": "embeddings", "text_completion": "text_completion"}


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


def fields_of(payload: Mapping[str, Any]) -> Dict[str, Any]:
    """``standard_logging_object`` as fields of a call; addresses, key hashes and user agents stay out."""
    meta = _dict(payload.get("metadata"))
    failed = payload.get("status") == "failure"
    call_type = str(payload.get("call_type") or "").lstrip("a") or "completion"
    response = payload.get("response")
    fields: Dict[str, Any] = chat_fields(dict(response)) if isinstance(response, Mapping) else {}
    usage = meta.get("usage_object")
    tokens: Dict[str, Any] = dict(tokens_of(usage)) if usage else {}
    if not tokens and not failed:
        tokens = {"input": payload.get("prompt_tokens"), "output": payload.get("completion_tokens")}
    parameters = _dict(payload.get("model_parameters"))
    start = payload.get("startTime")
    ttft = _ms(payload.get("completionStartTime"), start) if payload.get("stream") else None
    prompt = _dict(meta.get("prompt_management_metadata"))
    fields.update(
        model=payload.get("model_group") or payload.get("model"),
        provider=payload.get("custom_llm_provider"),
        op=_OPS.get(call_type, "chat"),
        ts=start,
        latency_ms=_ms(payload.get("endTime"), start),
        ttft_ms=ttft,
        tokens={k: v for k, v in tokens.items() if v is not None} or None,
        usage_reported=bool(usage),
        cost_reported=None if failed else payload.get("response_cost"),
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
        tags=payload.get("request_tags") or None,
        prompt_name=prompt.get("prompt_id"),
    )
    fields.setdefault("response_model", payload.get("model"))
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
    asked = _dict(meta.get("requester_metadata"))
    session = asked.pop("session_id", None)
    if session is not None:
        fields["session_id"] = session
    if asked:
        fields["extra"] = asked
    return {name: value for name, value in fields.items() if value is not None}


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


class TailraceLogger(CustomLogger):  # type: ignore[misc, unused-ignore]
    """``litellm.callbacks = [TailraceLogger()]``; records with the default emitter, or the one given."""

    def __init__(self, emitter: Optional[Emitter] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._emitter = emitter
        self._seen: OrderedDict[str, None] = OrderedDict()

    def _record(self, kwargs: Any) -> None:
        try:
            payload = kwargs.get("standard_logging_object")
            if not isinstance(payload, Mapping) or self._again(payload, kwargs):
                return
            emitter = self._emitter
            if emitter is None:
                from tailrace_emitter import default

                emitter = default()

            def lazy(given: Dict[str, Any]) -> Dict[str, Any]:
                return {**fields_of(payload), **given}

            emitter.record({}, lazy)
        except Exception:  # noqa: BLE001 - never in the gateway's way
            pass

    def _again(self, payload: Mapping[str, Any], kwargs: Mapping[str, Any]) -> bool:
        """LiteLLM may call the sync and the async hook for one call; the first is recorded."""
        key = f"{kwargs.get('litellm_call_id') or payload.get('id')}/{payload.get('status')}"
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _SEEN:
            self._seen.popitem(last=False)
        return False

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
