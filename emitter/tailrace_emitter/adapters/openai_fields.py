"""Reads the requests and answers of the OpenAI API as fields of an event. Pure.

Runs in the background thread: the app's thread only keeps references.
Source: the API reference of chat completions, completions and responses at platform.openai.com.
"""

import hashlib
import json
from typing import Any, Iterable, List, Mapping, Optional

from tailrace_emitter.adapters import openai_media
from tailrace_emitter.adapters.openai_usage import put_usage
from tailrace_emitter.adapters.sdk_values import Json, as_dict, as_list, plain, reported
from tailrace_emitter.adapters.usage import hosted_tools

_TOOL_ITEMS = ("function_call", "custom_tool_call", "mcp_call")
"""Items of a response that are calls of a tool with arguments."""
ENDED = ("completed", "incomplete", "failed", "cancelled")
"""States of a response that has ended."""
RUNNING = ("queued", "in_progress")
"""States of a response that is still running."""


def request_fields(op: str, body: Mapping[str, Any]) -> Json:
    """The fields of the request."""
    reasoning = body.get("reasoning_effort") or as_dict(body.get("reasoning")).get("effort")
    fields: Json = {
        "op": op,
        "model": body.get("model"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "max_tokens": body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens"),
        "seed": body.get("seed"),
        "reasoning_effort": reasoning,
        "stream": True if body.get("stream") or body.get("stream_format") == "sse" else None,
        "user": body.get("safety_identifier") or body.get("user"),
        "system": body.get("instructions"),
        "input": _input(op, body),
    }
    tools = body.get("tools") or body.get("functions")
    if tools:
        definitions = json.dumps(tools, sort_keys=True, default=str).encode("utf-8", "replace")
        fields["tools_hash"] = hashlib.sha256(definitions).hexdigest()[:16]
    if isinstance(body.get("metadata"), dict):
        fields["extra"] = dict(body["metadata"])
    return reported(fields)


def _input(op: str, body: Mapping[str, Any]) -> Any:
    if op in ("transcription", "translation"):
        return "[audio]"
    prompt = body.get("messages") if "messages" in body else body.get("input", body.get("prompt"))
    if op == "embeddings" and isinstance(prompt, (list, tuple)) and not all(isinstance(s, str) for s in prompt):
        return None  # token numbers, not text
    return list(prompt) if isinstance(prompt, (list, tuple)) else prompt


def _common(answer: Json) -> Json:
    return {
        "response_model": answer.get("model"),
        "response_id": answer.get("id"),
        "service_tier": answer.get("service_tier"),
        "fingerprint": answer.get("system_fingerprint"),
    }


def _asked_tools(calls: Iterable[Json]) -> Optional[List[Json]]:
    tools = []
    for call in calls:
        called = as_dict(call.get("function")) or as_dict(call.get("custom")) or call
        tools.append(
            reported(
                {
                    "name": called.get("name"),
                    "id": call.get("call_id") or call.get("id"),
                    "args": called.get("arguments") or called.get("input"),
                }
            )
        )
    return tools or None


def chat_fields(answer: Json) -> Json:
    """A chat completion or a text completion; of several choices every text and every tool."""
    fields = _common(answer)
    outputs: List[str] = []
    calls: List[Json] = []
    refused = None
    for choice in as_list(answer.get("choices")):
        message = as_dict(choice.get("message"))
        if fields.get("finish_reason") is None:
            fields["finish_reason"] = choice.get("finish_reason")
        text = text_of(message.get("content")) if message else choice.get("text")
        if message.get("refusal"):
            refused, text = True, text or message["refusal"]
        text = text or as_dict(message.get("audio")).get("transcript")
        if isinstance(text, str) and text:
            outputs.append(text)
        calls.extend(as_list(message.get("tool_calls")))
        if message.get("function_call"):
            calls.append({"function": message["function_call"]})
    if fields.get("finish_reason") == "content_filter":
        refused = True
    fields["output"] = "\n\n".join(outputs) if outputs else None
    fields["tools"] = _asked_tools(calls)
    fields["refused"] = refused
    failed = as_dict(answer.get("error"))
    if failed and not answer.get("choices"):  # Azure's content filter has answered with status 200
        code = str(failed.get("code") or "error")
        fields["error"] = {"type": code, "code": code, "message": failed.get("message")}
        fields["status"] = "blocked" if code == "content_filter" else "error"
    put_usage(fields, answer.get("usage"))
    return fields


def text_of(content: Any) -> str:
    """Return the text of a content.

    Mistral's is a list of parts where the model reasons; reasoning is no part of the text.
    """
    if isinstance(content, (list, tuple)):
        return "".join(str(piece.get("text") or "") for piece in as_list(content))
    return content if isinstance(content, str) else ""


def response_fields(answer: Json) -> Json:
    """An answer of the Responses API; one that has not ended has no ``finish_reason``."""
    fields = _common(answer)
    outputs: List[str] = []
    calls: List[Json] = []
    refused = None
    for item in as_list(answer.get("output")):
        if item.get("type") in _TOOL_ITEMS:
            calls.append(item)
        for piece in as_list(item.get("content")) if item.get("type") == "message" else ():
            if piece.get("type") == "refusal":
                refused = True
            outputs.append(str(piece.get("text") or piece.get("refusal") or ""))
    status = answer.get("status")
    if status == "failed":
        error = as_dict(answer.get("error"))
        code = error.get("code")
        fields["error"] = {"type": str(code or "failed"), "code": code, "message": error.get("message")}
    elif status == "cancelled":
        fields["status"] = "cancelled"
    if status not in RUNNING:
        reason = as_dict(answer.get("incomplete_details")).get("reason")
        refused = True if reason == "content_filter" else refused
        fields["finish_reason"] = reason or ("tool_calls" if calls else "stop" if status == "completed" else status)
    fields["output"] = "\n\n".join(o for o in outputs if o) or None
    fields["units"] = hosted_tools(answer.get("output")) or None
    fields["tools"] = _asked_tools(calls)
    fields["refused"] = refused
    put_usage(fields, answer.get("usage"))
    return fields


def answer_fields(op: str, answer: Any, asked: Optional[Mapping[str, Any]] = None) -> Json:
    """The fields of an answer of any endpoint.

    Args:
        op: operation of the request.
        answer: an object of the SDK, or its JSON.
        asked: the request's body; where an answer has no usage, the request holds what is billed.
    """
    media = openai_media.READERS.get(op)
    if media is not None:
        return reported(media(answer, asked or {}))
    found = plain(answer)
    is_response = str(found.get("object")).startswith("response")
    return reported(response_fields(found) if is_response else chat_fields(found))


def error_fields(error: BaseException) -> Json:
    """How a call failed: the SDK's class, the provider's code, its message."""
    code = getattr(error, "code", None) or getattr(error, "status_code", None)
    described = {"type": type(error).__name__, "message": str(error)}
    if code is not None:
        described["code"] = str(code)
    fields: Json = {"error": described, "status": "error"}
    if code == "content_filter":
        fields["status"] = "blocked"
    if not isinstance(error, Exception) or type(error).__name__ == "CancelledError":
        fields["status"] = "cancelled"
    return fields
