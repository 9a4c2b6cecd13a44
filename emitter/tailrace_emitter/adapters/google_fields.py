"""Reads the requests, answers and streams of Google's Gemini API and of Vertex AI as fields of an event. Pure.

Both as JSON on the wire: ``GenerateContentRequest`` and ``GenerateContentResponse`` at ai.google.dev/api, ``predict``
in the reference of Vertex AI.
"""

import hashlib
import json
import re
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from tailrace_emitter.adapters.usage import from_gemini, grounding, reports_nothing

Json = Dict[str, Any]
_METHODS = {
    "generateContent": "chat",
    "streamGenerateContent": "chat",
    "embedContent": "embeddings",
    "batchEmbedContents": "embeddings",
    "predict": "image_generation",
    "predictLongRunning": "video_generation",
}
"""Method of a model -> operation; embeddings on Vertex AI are a ``predict`` too."""
_PATH = re.compile(r"(?P<model>[^:?]+):(?P<method>[A-Za-z]+)(?:\?|$)")
_VERTEX = re.compile(r"(?:^|[.-])aiplatform(?:\.[a-z]+\.rep)?\.googleapis\.com$")
_REFUSED = ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "IMAGE_SAFETY")


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> List[Json]:
    return [_dict(v) for v in value] if isinstance(value, (list, tuple)) else []


def _known(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def snapshot(value: Any) -> Any:
    """A copy that shares texts and numbers: the SDK removes unknown fields from the answer itself."""
    if isinstance(value, dict):
        return {name: snapshot(one) for name, one in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], (dict, list)):
        return [snapshot(one) for one in value]
    return value


def operation(path: str, body: Mapping[str, Any]) -> Optional[Tuple[str, str]]:
    """The operation and the model behind a request's path, or None for one that is not a model call."""
    found = _PATH.search(path)
    op = _METHODS.get(found.group("method")) if found else None
    if found is None or op is None:
        return None
    if op == "image_generation" and any("content" in one for one in _list(body.get("instances"))):
        op = "embeddings"
    model = found.group("model")
    return op, model.rpartition("models/")[2] or model


def provider_of(host: Optional[str], *, vertex: bool) -> Optional[str]:
    """Return the provider: from the host; behind another address from the protocol, where it is that of Vertex AI."""
    host = (host or "").lower().rstrip(".")
    if _VERTEX.search(host):
        return "gcp.vertex_ai"
    if host == "generativelanguage.googleapis.com":
        return "gcp.gemini"
    return "gcp.vertex_ai" if vertex else None


def _part(part: Json) -> Optional[Json]:
    """One part of a message as ``fields.part_text`` reads it; None for a thought."""
    if part.get("thought"):
        return None
    media = _dict(part.get("inlineData") or part.get("fileData"))
    if media:
        return {"type": str(media.get("mimeType") or "file")}
    if "functionCall" in part:
        call = _dict(part["functionCall"])
        return {"type": "function_call", "name": call.get("name"), "arguments": call.get("args")}
    if "functionResponse" in part:
        response = _dict(part["functionResponse"]).get("response")
        return {"type": "tool_result", "text": json.dumps(response, ensure_ascii=False, default=str)}
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    return {"type": next(iter(part), "part")}


def _message(content: Json) -> Json:
    role = content.get("role")
    parts = [_part(p) for p in _list(content.get("parts"))]
    return {"role": "assistant" if role == "model" else role or "user", "content": [p for p in parts if p is not None]}


def _text(content: Any) -> Optional[str]:
    texts = [p["text"] for p in _list(_dict(content).get("parts")) if isinstance(p.get("text"), str)]
    return "\n".join(texts) or None


def request_fields(op: str, model: str, body: Mapping[str, Any], *, stream: bool) -> Json:
    """The fields of the request."""
    config = _dict(body.get("generationConfig"))
    thinking = _dict(config.get("thinkingConfig"))
    budget = thinking.get("thinkingBudget")
    fields: Json = {
        "op": op,
        "model": model,
        "temperature": config.get("temperature"),
        "top_p": config.get("topP"),
        "max_tokens": config.get("maxOutputTokens"),
        "seed": config.get("seed"),
        "reasoning_effort": thinking.get("thinkingLevel") or (None if budget is None else str(budget)),
        "stream": True if stream else None,
        "system": _text(body.get("systemInstruction")),
        "input": _input(body),
        "extra": _dict(body.get("labels")) or None,
    }
    if body.get("tools"):
        definitions = json.dumps(body["tools"], sort_keys=True, default=str).encode("utf-8", "replace")
        fields["tools_hash"] = hashlib.sha256(definitions).hexdigest()[:16]
    return _known(fields)


def _input(body: Mapping[str, Any]) -> Any:
    if "contents" in body:
        return [_message(c) for c in _list(body["contents"])] or None
    instances = _list(body.get("instances"))
    texts: List[Any] = [_text(r.get("content")) for r in _list(body.get("requests"))]
    texts += [_text(body.get("content"))] + [i.get("content") or i.get("prompt") for i in instances]
    return [t for t in texts if isinstance(t, str)] or None


def _tools(parts: List[Json]) -> List[Json]:
    tools = []
    for part in parts:
        call = _dict(part.get("functionCall") or part.get("toolCall"))
        code = _dict(part.get("executableCode"))
        if call:
            args = json.dumps(call.get("args") or {}, ensure_ascii=False, default=str)
            tools.append({"name": call.get("name") or call.get("toolType"), "id": call.get("id"), "args": args})
        elif code:
            tools.append({"name": "code_execution", "id": code.get("id"), "args": code.get("code")})
    return [_known(tool) for tool in tools]


def _usage(answer: Json) -> Json:
    """Tokens, and whether they were reported; Vertex AI counts those of embeddings text by text."""
    usage = _dict(answer.get("usageMetadata"))
    tokens = dict(from_gemini(usage)) if usage else {}
    if not usage:
        texts = [_dict(p.get("embeddings")).get("statistics") for p in _list(answer.get("predictions"))]
        counts = [_dict(s).get("token_count") for s in texts]
        known = [c for c in counts if isinstance(c, (int, float)) and not isinstance(c, bool)]
        tokens = {"input": int(sum(known))} if known and len(known) == len(counts) else {}
    if reports_nothing(tokens):
        tokens = {}
    tier = usage.get("serviceTier")  # that of Vertex AI is read from its traffic type, with the tokens
    return {
        "tokens": tokens or None,
        "usage_reported": bool(tokens),
        "service_tier": tier if isinstance(tier, str) else None,
    }


def _loaded(answer: Any) -> Json:
    return _dict(json.loads(answer) if isinstance(answer, (str, bytes)) else answer)


def answer_fields(answer: Any) -> Json:
    """One answer of the API: its JSON, or that as text."""
    found = _loaded(answer)
    candidates = _list(found.get("candidates"))
    parts = [_list(_dict(c.get("content")).get("parts")) for c in candidates]
    answer_texts = [[p["text"] for p in of if isinstance(p.get("text"), str) and not p.get("thought")] for of in parts]
    blocked = _dict(found.get("promptFeedback")).get("blockReason")
    stopped = next((c["finishReason"] for c in candidates if c.get("finishReason") is not None), blocked)
    images = [p for p in _list(found.get("predictions")) if "bytesBase64Encoded" in p or "gcsUri" in p]
    fields: Json = {
        "response_model": found.get("modelVersion"),
        "response_id": found.get("responseId"),
        "finish_reason": None if stopped is None else str(stopped),
        "output": "\n\n".join("".join(texts) for texts in answer_texts if texts) or None,
        "tools": _tools([p for of in parts for p in of]) or None,
        "refused": True if blocked or stopped in _REFUSED else None,
        "status": "blocked" if blocked else None,
        "units": grounding(candidates, found.get("modelVersion")) or None,
        **_usage(found),
    }
    if images:
        fields["tokens"] = {**(fields["tokens"] or {}), "images": len(images)}
    error = _dict(found.get("error"))
    if error:
        described = {"type": error.get("status"), "code": error.get("status"), "message": error.get("message")}
        fields.update(status="error", error=_known(described))
    return _known(fields)


def is_whole(chunks: List[Any]) -> bool:
    """Whether the last chunk holds the reason why the answer ended."""
    last = _loaded(chunks[-1]) if chunks else {}
    return any(c.get("finishReason") is not None for c in _list(last.get("candidates")))


def stream_fields(chunks: Iterable[Any]) -> Json:
    """The answer that is built from the chunks of a stream.

    Each chunk repeats the usage so far: the last one counts.
    """
    whole: Json = {}
    candidates: Dict[Any, Json] = {}
    answers = [_loaded(chunk) for chunk in chunks]
    for chunk in answers:
        whole.update({k: v for k, v in chunk.items() if k != "candidates" and v is not None})
        for candidate in _list(chunk.get("candidates")):
            held = candidates.setdefault(candidate.get("index") or 0, {"content": {"parts": []}})
            held["content"]["parts"] += _list(_dict(candidate.get("content")).get("parts"))
            held.update({k: v for k, v in candidate.items() if k != "content" and v is not None})
    whole["candidates"] = [candidates[number] for number in sorted(candidates)]
    fields = answer_fields(whole)
    # the output is incomplete, so its token counts are those up to this chunk
    if "finish_reason" not in fields and "tokens" in fields:
        fields["tokens"] = {k: v for k, v in fields["tokens"].items() if k not in ("output", "reasoning", "audio_out")}
        fields["usage_reported"] = False
    return fields
