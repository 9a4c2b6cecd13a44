"""Reads LiteLLM's standard logging payload as fields of an event. Pure, but for LiteLLM's price list."""

import contextlib
import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from tailrace_emitter.adapters import litellm_streams
from tailrace_emitter.adapters.openai_fields import answer_fields
from tailrace_emitter.adapters.usage import billed_searches, reports_nothing, tokens_of

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


def reports_usage(raw: Any) -> bool:
    """Whether the provider reported usage, by LiteLLM's ``original_response``; True where it cannot be read from that.

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
    op = _operation(payload)
    failed = payload.get("status") == "failure"
    fields = _answer_fields(op, payload)
    tokens, usage, invented = _usage(op, payload, raw, fields)
    without_cost = failed or invented or (op == "speech" and _by_audio(payload))
    fields.update(
        **_request_fields(op, payload),
        tokens={k: v for k, v in tokens.items() if v is not None} or None,
        usage_reported=bool(usage),
        cost_reported=None if without_cost else _cost(payload),
    )
    # the proxy writes the model name that its caller used
    if fields.get("response_model") in (None, payload.get("model_group")):
        fields["response_model"] = payload.get("model")
    if payload.get("cache_hit"):
        fields["cache"] = {"kind": "exact", "saved": payload.get("saved_cache_cost")}
    if failed:
        fields.update(status="error", error=_error(payload))
    if (guardrails := _guardrails(payload)) is not None:
        fields["guardrails"] = guardrails
    fields.update(_metadata(payload))
    return {name: value for name, value in fields.items() if value is not None}


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


def _operation(payload: Mapping[str, Any]) -> str:
    call_type = str(payload.get("call_type") or "")
    return _OPS.get(call_type) or _OPS.get(call_type[1:] if call_type.startswith("a") else "", "chat")


def _answer_fields(op: str, payload: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of the answer, which has the form of OpenAI's API."""
    response = payload.get("response")
    if not isinstance(response, Mapping):
        return {}
    asked = _dict(payload.get("model_parameters"))
    asked.update(input=payload.get("messages"), model=payload.get("model"))
    return answer_fields(op, dict(response), asked)


def _usage(
    op: str, payload: Mapping[str, Any], raw: Any, fields: Dict[str, Any]
) -> Tuple[Dict[str, Any], Mapping[str, Any], bool]:
    """Return the tokens, the usage object, and whether LiteLLM invented them; then they leave ``fields`` too."""
    usage = _dict(payload.get("metadata")).get("usage_object") or _pages(payload.get("response"))
    tokens: Dict[str, Any] = _billed(dict(tokens_of(usage)), payload.get("model")) if usage else {}
    if fields.get("units") and op == "image_generation":
        tokens.pop("units", None)  # LiteLLM counts the images; the units have their size and quality as well
    if not tokens and payload.get("status") != "failure":
        tokens = {"input": payload.get("prompt_tokens"), "output": payload.get("completion_tokens")}
    invented = op in _COUNTED and not payload.get("cache_hit") and not reports_usage(raw)
    if invented or (reports_nothing(tokens) and not payload.get("cache_hit")):
        tokens, usage = {}, {}  # LiteLLM writes 0, or counts itself, where nothing was reported
        fields.pop("tokens", None)
    return tokens, usage, invented


def _request_fields(op: str, payload: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of the request: what was sent, when, for whom."""
    meta = _dict(payload.get("metadata"))
    parameters = _dict(payload.get("model_parameters"))
    start = payload.get("startTime")
    return {
        "model": payload.get("model_group") or payload.get("model"),
        "provider": payload.get("custom_llm_provider"),
        "op": op,
        "ts": start,
        "latency_ms": _ms(payload.get("endTime"), start),
        "ttft_ms": _ms(payload.get("completionStartTime"), start) if payload.get("stream") else None,
        "stream": payload.get("stream") or None,
        "host": _host(payload.get("api_base")),
        "input": payload.get("messages"),
        "temperature": parameters.get("temperature"),
        "top_p": parameters.get("top_p"),
        "max_tokens": parameters.get("max_completion_tokens") or parameters.get("max_tokens"),
        "seed": parameters.get("seed"),
        "reasoning_effort": parameters.get("reasoning_effort"),
        "team": meta.get("user_api_key_team_alias") or meta.get("user_api_key_team_id"),
        "tenant": meta.get("user_api_key_org_id"),
        "user": payload.get("end_user") or meta.get("user_api_key_end_user_id") or None,
        "trace_id": payload.get("trace_id"),
        "tags": [tag for tag in payload.get("request_tags") or () if not str(tag).startswith("User-Agent:")] or None,
        "prompt_name": _dict(meta.get("prompt_management_metadata")).get("prompt_id"),
    }


def _error(payload: Mapping[str, Any]) -> Dict[str, Any]:
    error = _dict(payload.get("error_information"))
    return {
        "type": error.get("error_class"),
        "code": error.get("error_code") or None,
        "message": error.get("error_message") or payload.get("error_str"),
    }


def _guardrails(payload: Mapping[str, Any]) -> Optional[List[Dict[str, Any]]]:
    guardrails = payload.get("guardrail_information")
    if isinstance(guardrails, Mapping):
        guardrails = [guardrails]
    return [_guardrail(_dict(each)) for each in guardrails] if isinstance(guardrails, list) else None


def _metadata(payload: Mapping[str, Any]) -> Dict[str, Any]:
    """The caller's own metadata: the session, and the rest as ``extra``."""
    requester = _dict(_dict(payload.get("metadata")).get("requester_metadata"))
    asked = {name: value for name, value in requester.items() if name not in _OF_PROXY}
    fields: Dict[str, Any] = {}
    session = asked.pop("session_id", None)
    if session is not None:
        fields["session_id"] = session
    if asked:
        fields["extra"] = asked
    return fields


def _pages(response: Any) -> Dict[str, Any]:
    """Return the usage of an OCR answer, which LiteLLM does not report as the usage of the call."""
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

    with contextlib.suppress(Exception):  # a model that is missing from LiteLLM's price list
        info = litellm.get_model_info(str(payload.get("model")), payload.get("custom_llm_provider"))
        return bool(info.get("output_cost_per_audio_token"))
    return False


def _guardrail(guardrail: Mapping[str, Any]) -> Dict[str, Any]:
    mode = guardrail.get("guardrail_mode")
    stage = {"pre_call": "input", "during_call": "input", "post_call": "output"}.get(str(mode), str(mode or ""))
    seconds = guardrail.get("duration")
    categories = guardrail.get("violation_categories")
    described: Dict[str, Any] = {
        "name": guardrail.get("guardrail_name"),
        "stage": stage or None,
        "score": guardrail.get("risk_score"),
        "category": categories[0] if isinstance(categories, list) and categories else None,
        "ms": seconds * 1000 if isinstance(seconds, (int, float)) else None,
    }
    status = str(guardrail.get("guardrail_status") or "")
    # LiteLLM's own verdict; any other value is the provider's and is kept as it is
    if status == "success":
        described["action"] = "pass"
    elif status in ("guardrail_intervened", "blocked"):
        described["action"] = "block"
    elif status in ("failure", "guardrail_failed_to_respond"):
        described["action"] = "error"
    return {name: value for name, value in described.items() if value is not None}
