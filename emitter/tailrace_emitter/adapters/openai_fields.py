"""What the OpenAI API's requests, answers and streams say about a call, as fields of an event. Pure.

Runs in the background thread: the app's thread only keeps references.
"""

import hashlib
import json
from typing import Any, Dict, Iterable, List, Mapping, Optional

from tailrace_emitter.adapters.usage import from_openai

OPERATIONS = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/responses": "chat",
    "/embeddings": "embeddings",
}
# The name OpenTelemetry gives to who answers behind an OpenAI-compatible address.
_PROVIDERS = (
    ("openai.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("api.groq.com", "groq"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "x_ai"),
    ("api.mistral.ai", "mistral_ai"),
    ("api.perplexity.ai", "perplexity"),
    ("api.moonshot", "moonshot_ai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("openrouter.ai", "openrouter"),
)

Json = Dict[str, Any]


def operation(url: str) -> Optional[str]:
    """The operation behind a request path, or None for one that is not a model call."""
    path = url.split("?", 1)[0].rstrip("/")
    return next((op for tail, op in OPERATIONS.items() if path == tail or path.endswith(tail)), None)


def provider_of(host: str) -> str:
    """Who answers at ``host``; ``openai`` where the address does not tell, as OpenTelemetry asks."""
    return next((name for part, name in _PROVIDERS if part in host), "openai")


def plain(value: Any) -> Json:
    """A model of the SDK (or a mapping) as a dict."""
    if isinstance(value, Mapping):
        return dict(value)
    dump = getattr(value, "model_dump", None)
    found = dump(warnings=False) if callable(dump) else None
    return found if isinstance(found, dict) else {}


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> List[Json]:
    return [_dict(v) for v in value] if isinstance(value, (list, tuple)) else []


def request_fields(op: str, body: Mapping[str, Any]) -> Json:
    """What was asked for."""
    reasoning = body.get("reasoning_effort") or _dict(body.get("reasoning")).get("effort")
    fields: Json = {
        "op": op,
        "model": body.get("model"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "max_tokens": body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens"),
        "seed": body.get("seed"),
        "reasoning_effort": reasoning,
        "stream": True if body.get("stream") else None,
        "user": body.get("safety_identifier") or body.get("user"),
        "system": body.get("instructions"),
    }
    said = body.get("messages") if "messages" in body else body.get("input", body.get("prompt"))
    if op == "embeddings" and isinstance(said, (list, tuple)) and not all(isinstance(s, str) for s in said):
        said = None  # token numbers, not text
    fields["input"] = list(said) if isinstance(said, (list, tuple)) else said
    if body.get("tools"):
        definitions = json.dumps(body["tools"], sort_keys=True, default=str).encode("utf-8", "replace")
        fields["tools_hash"] = hashlib.sha256(definitions).hexdigest()[:16]
    if isinstance(body.get("metadata"), dict):
        fields["extra"] = dict(body["metadata"])
    return {name: value for name, value in fields.items() if value is not None}


def _usage(fields: Json, usage: Any) -> None:
    tokens = from_openai(usage) if usage else {}
    fields["usage_reported"] = bool(tokens)
    if tokens:
        fields["tokens"] = tokens
    cost = _dict(usage).get("cost")
    if isinstance(cost, (int, float)) and not isinstance(cost, bool):
        fields["cost_reported"] = cost  # OpenRouter says it


def _common(answer: Json) -> Json:
    return {
        "response_model": answer.get("model"),
        "response_id": answer.get("id"),
        "service_tier": answer.get("service_tier"),
        "fingerprint": answer.get("system_fingerprint"),
    }


def _asked_tools(calls: Iterable[Json]) -> List[Json]:
    tools = []
    for call in calls:
        called = _dict(call.get("function")) or _dict(call.get("custom")) or call
        tools.append(
            {
                "name": called.get("name"),
                "id": call.get("call_id") or call.get("id"),
                "args": called.get("arguments") or called.get("input"),
            }
        )
    return [{k: v for k, v in tool.items() if v is not None} for tool in tools]


def chat_fields(answer: Json) -> Json:
    """A chat completion or a text completion."""
    fields = _common(answer)
    outputs: List[str] = []
    calls: List[Json] = []
    refused = None
    for choice in _list(answer.get("choices")):
        message = _dict(choice.get("message"))
        fields.setdefault("finish_reason", choice.get("finish_reason"))
        text = message.get("content") if message else choice.get("text")
        if message.get("refusal"):
            refused, text = True, text or message["refusal"]
        if isinstance(text, str) and text:
            outputs.append(text)
        calls.extend(_list(message.get("tool_calls")))
        if message.get("function_call"):
            calls.append({"function": message["function_call"]})
    if fields.get("finish_reason") == "content_filter":
        refused = True
    fields["output"] = "\n\n".join(outputs) if outputs else None
    fields["tools"] = _asked_tools(calls) or None
    fields["refused"] = refused
    _usage(fields, answer.get("usage"))
    return fields


def response_fields(answer: Json) -> Json:
    """An answer of the Responses API."""
    fields = _common(answer)
    outputs: List[str] = []
    calls: List[Json] = []
    refused = None
    for item in _list(answer.get("output")):
        if item.get("type") in ("function_call", "custom_tool_call", "mcp_call"):
            calls.append(item)
        for part in _list(item.get("content")) if item.get("type") == "message" else ():
            if part.get("type") == "refusal":
                refused = True
            outputs.append(str(part.get("text") or part.get("refusal") or ""))
    status = answer.get("status")
    if status == "failed":
        error = _dict(answer.get("error"))
        code = error.get("code")
        fields["error"] = {"type": str(code or "failed"), "code": code, "message": error.get("message")}
    elif status == "cancelled":
        fields["status"] = "cancelled"
    reason = _dict(answer.get("incomplete_details")).get("reason")
    fields["finish_reason"] = reason or ("tool_calls" if calls else "stop" if status == "completed" else status)
    fields["output"] = "\n\n".join(o for o in outputs if o) or None
    fields["tools"] = _asked_tools(calls) or None
    fields["refused"] = refused
    _usage(fields, answer.get("usage"))
    return fields


def embedding_fields(answer: Any) -> Json:
    """An embedding answer; its vectors are left where they are."""
    model = answer.get("model") if isinstance(answer, Mapping) else getattr(answer, "model", None)
    usage = answer.get("usage") if isinstance(answer, Mapping) else getattr(answer, "usage", None)
    fields: Json = {"response_model": model}
    _usage(fields, plain(usage) if usage is not None else None)
    return fields


def answer_fields(op: str, answer: Any) -> Json:
    """What an answer says, whichever endpoint gave it."""
    if op == "embeddings":
        return embedding_fields(answer)
    found = plain(answer)
    fields = response_fields(found) if found.get("object") == "response" else chat_fields(found)
    return {name: value for name, value in fields.items() if value is not None}


def _join_chat(chunks: List[Json]) -> Json:
    """The chat completion that a stream of chunks spells out."""
    whole: Json = {"choices": []}
    choices: Dict[int, Json] = {}
    for chunk in chunks:
        for name in ("id", "model", "service_tier", "system_fingerprint", "usage"):
            if chunk.get(name) is not None:
                whole[name] = chunk[name]
        for choice in _list(chunk.get("choices")):
            number = choice.get("index") or 0
            message: Json = {"content": "", "refusal": "", "calls": {}}
            held = choices.setdefault(number, {"message": message, "finish_reason": None})
            message = held["message"]
            delta = _dict(choice.get("delta"))
            message["content"] += delta.get("content") or choice.get("text") or ""
            message["refusal"] += delta.get("refusal") or ""
            held["finish_reason"] = choice.get("finish_reason") or held["finish_reason"]
            for part in _list(delta.get("tool_calls")):
                call = message["calls"].setdefault(part.get("index") or 0, {"function": {"name": "", "arguments": ""}})
                call["id"] = part.get("id") or call.get("id")
                function = _dict(part.get("function"))
                call["function"]["name"] = function.get("name") or call["function"]["name"]
                call["function"]["arguments"] += function.get("arguments") or ""
    for number in sorted(choices):
        message = choices[number]["message"]
        message["tool_calls"] = list(message.pop("calls").values())
        whole["choices"].append(choices[number])
    return whole


def _join_response(events: List[Json]) -> Json:
    """The response that a stream of events ends with, or as much of it as was heard."""
    for event in reversed(events):
        if event.get("type") in ("response.completed", "response.incomplete", "response.failed"):
            return _dict(event.get("response"))
    begun = next((_dict(e["response"]) for e in events if isinstance(e.get("response"), dict)), {})
    heard = "".join(str(e.get("delta") or "") for e in events if e.get("type") == "response.output_text.delta")
    part = {"type": "output_text", "text": heard}
    return {**begun, "object": "response", "output": [{"type": "message", "content": [part]}]}


def stream_fields(op: str, chunks: Iterable[Any]) -> Json:
    """What a stream said, as if it had been one answer."""
    heard = [plain(chunk) for chunk in chunks]
    if any(str(chunk.get("type", "")).startswith("response.") for chunk in heard):
        fields = response_fields(_join_response(heard))
    else:
        fields = chat_fields(_join_chat(heard))
    return {name: value for name, value in fields.items() if value is not None}


def error_fields(error: BaseException) -> Json:
    """How a call failed: the SDK's class, the provider's code, its message."""
    code = getattr(error, "code", None) or getattr(error, "status_code", None)
    told = {"type": type(error).__name__, "message": str(error)}
    if code is not None:
        told["code"] = str(code)
    fields: Json = {"error": told, "status": "error", "usage_reported": False}
    if code == "content_filter":
        fields["status"] = "blocked"
    if not isinstance(error, Exception) or type(error).__name__ == "CancelledError":
        fields["status"] = "cancelled"
    return fields
