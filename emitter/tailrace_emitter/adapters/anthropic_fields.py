"""Reads the requests, answers and streams of Anthropic's API as fields of an event. Pure."""

import hashlib
import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional

from tailrace_emitter.adapters.providers import provider_of as known_provider
from tailrace_emitter.adapters.sdk_values import plain
from tailrace_emitter.adapters.usage import from_anthropic, reports_nothing

Json = Dict[str, Any]
OPERATIONS = {"/v1/messages": "chat", "/v1/complete": "text_completion"}
_ASKED = ("tool_use", "server_tool_use", "mcp_tool_use")
_VERTEX = re.compile(r"(?:^|[.-])aiplatform(?:\.[a-z]+\.rep)?\.googleapis\.com$")


def operation(url: str) -> Optional[str]:
    """The operation behind a request path, or None for one that is not a model call."""
    return OPERATIONS.get(url.split("?", 1)[0].rstrip("/"))


def provider_of(host: Optional[str], platform: Optional[str], *models: Any) -> Optional[str]:
    """Return the provider: from the host, the SDK's client of a platform (Bedrock, Vertex AI), or the model's name."""
    host = (host or "").lower()
    if _VERTEX.search(host):
        return "gcp.vertex_ai"
    return known_provider(host) or platform or known_provider(host, *models)


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _blocks(value: Any) -> List[Json]:
    return [_dict(v) for v in value] if isinstance(value, (list, tuple)) else []


def _known(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def request_fields(op: str, body: Mapping[str, Any]) -> Json:
    """The fields of the request."""
    thinking = _dict(body.get("thinking"))
    effort = _dict(body.get("output_config")).get("effort")
    fields: Json = {
        "op": op,
        "model": body.get("model"),
        "temperature": body.get("temperature"),
        "top_p": body.get("top_p"),
        "max_tokens": body.get("max_tokens") or body.get("max_tokens_to_sample"),
        "reasoning_effort": effort or thinking.get("type"),
        "stream": True if body.get("stream") else None,
        "user": _dict(body.get("metadata")).get("user_id"),
        "system": body.get("system"),
    }
    asked = body.get("messages", body.get("prompt"))
    # an iterator belongs to the app and can be read only once
    fields["input"] = asked if isinstance(asked, (list, tuple, str)) else None
    if isinstance(body.get("tools"), (list, tuple)):
        definitions = json.dumps(body["tools"], sort_keys=True, default=str).encode("utf-8", "replace")
        fields["tools_hash"] = hashlib.sha256(definitions).hexdigest()[:16]
    return _known(fields)


def _text(blocks: List[Json]) -> Optional[str]:
    """The text of an answer: parts in a row are one text (citations split it), another block begins a paragraph."""
    texts: List[str] = []
    together = False
    for block in blocks:
        text = block.get("text") if block.get("type") == "text" else None
        if isinstance(text, str) and text:
            if together:
                texts[-1] += text
            else:
                texts.append(text)
        together = block.get("type") == "text" and bool(texts)
    return "\n\n".join(texts) if texts else None


def _tools(blocks: List[Json]) -> List[Json]:
    failed = {
        b.get("tool_use_id"): bool(b.get("is_error")) or str(_dict(b.get("content")).get("type")).endswith("_error")
        for b in blocks
        if str(b.get("type")).endswith("_tool_result")
    }
    tools = []
    for block in blocks:
        if block.get("type") in _ASKED:
            ended = failed.get(block.get("id"))
            args = block.get("input")
            tools.append(
                _known(
                    {
                        "name": block.get("name"),
                        "id": block.get("id"),
                        "args": args if isinstance(args, str) else json.dumps(args, ensure_ascii=False, default=str),
                        "ok": None if ended is None else not ended,
                    }
                )
            )
    return tools


def answer_fields(answer: Any) -> Json:
    """A message, or an answer of the old completions."""
    found = plain(answer)
    usage = _dict(found.get("usage"))
    blocks = _blocks(found.get("content"))
    stopped = found.get("stop_reason")
    fields: Json = {
        "response_model": found.get("model"),
        "response_id": found.get("id"),
        "finish_reason": stopped,
        "output": _text(blocks) or found.get("completion"),
        "tools": _tools(blocks) or None,
        "refused": True if stopped == "refusal" else None,
        "service_tier": "fast" if usage.get("speed") == "fast" else usage.get("service_tier"),
    }
    tokens = from_anthropic(usage) if usage else {}
    if reports_nothing(tokens):
        tokens = {}
    fields["tokens"] = tokens or None
    fields["usage_reported"] = bool(tokens)
    region = usage.get("inference_geo")
    if region not in (None, "not_available"):
        fields["extra"] = {"inference_geo": region}  # some regions cost more
    return _known(fields)


def stream_fields(events: Iterable[Any]) -> Json:
    """The answer that is built from the events of a stream, as far as they were received."""
    message: Json = {}
    blocks: Dict[Any, Json] = {}
    complete = False
    for event in map(plain, events):
        kind = event.get("type")
        if kind == "message_start":
            message = dict(_dict(event.get("message")))
        elif kind == "content_block_start":
            blocks[event.get("index")] = dict(_dict(event.get("content_block")))
        elif kind == "content_block_delta":
            _add(blocks.setdefault(event.get("index"), {}), _dict(event.get("delta")))
        elif kind == "message_delta":
            message.update(_known(_dict(event.get("delta"))))
            message["usage"] = {**_dict(message.get("usage")), **_known(_dict(event.get("usage")))}
            complete = True
        elif "completion" in event:
            text = str(message.get("completion") or "") + str(event["completion"])
            message = {**message, **_known(event), "completion": text}
            complete = True
    message["content"] = _blocks(message.get("content")) + list(blocks.values())
    fields = answer_fields(message)
    if not complete and "tokens" in fields:  # the first event's count of the output is that of its first token
        fields["tokens"].pop("output", None)
        fields["usage_reported"] = False
    return fields


def _add(block: Json, delta: Json) -> None:
    if isinstance(delta.get("text"), str):
        block["type"] = "text"
        block["text"] = str(block.get("text") or "") + delta["text"]
    elif isinstance(delta.get("partial_json"), str):
        begun = block.get("input")
        block["input"] = (begun if isinstance(begun, str) else "") + delta["partial_json"]


def is_whole(events: Iterable[Any]) -> bool:
    """Whether the events hold the reason why the answer ended."""
    return any(plain(event).get("type") in ("message_delta", "message_stop") for event in list(events)[-3:])


def body_fields(body: bytes, frames: Iterable[Any], *, read_to_end: bool) -> Json:
    """The fields of a call from the raw body of its answer.

    Args:
        body: one JSON answer, or the bytes of a stream.
        frames: the events that the SDK's own decoder finds in it; they are only read where it is a stream.
        read_to_end: False where the app stopped before the end of the body.
    """
    if body.lstrip().startswith(b"{"):
        return answer_fields(json.loads(body))
    events: List[Json] = []
    for frame in frames:
        try:
            events.append(_dict(json.loads(frame.data)))
        except ValueError:  # cut off in the middle
            continue
    fields = stream_fields(events)
    error = next((_dict(e.get("error")) for e in events if e.get("type") == "error"), None)
    if error is not None:
        described = {"type": error.get("type"), "code": error.get("type"), "message": error.get("message")}
        fields.update(status="error", error=_known(described))
    elif not read_to_end and not is_whole(events):
        fields["status"] = "cancelled"
    return fields
