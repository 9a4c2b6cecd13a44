"""Answers of the OpenAI API that are no text of a chat: embeddings, images, audio, moderation. Pure.

Source: the API reference of embeddings, images, audio and moderations at platform.openai.com.
"""

import contextlib
import json
import re
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from tailrace_emitter.adapters.openai_usage import put_usage
from tailrace_emitter.adapters.sdk_values import Json, as_dict, as_list, part, plain

_DALL_E = re.compile(r"dall-e-[23]")
_SIZE = re.compile(r"\d{2,4}x\d{2,4}$")
_GUARDRAILS = 20
"""Most inputs of one moderation whose verdict is kept."""
Asked = Mapping[str, Any]


def embedding_fields(answer: Any, asked: Asked) -> Json:
    """Embeddings; the vectors are not read."""
    fields: Json = {"response_model": part(answer, "model")}
    put_usage(fields, plain(part(answer, "usage")))
    return fields


def image_fields(answer: Any, asked: Asked) -> Json:
    """Images that were made or changed: how many, how the prompt was rewritten."""
    found = plain(answer)
    images = as_list(found.get("data"))
    prompts = [image.get("revised_prompt") or "[image]" for image in images]
    fields: Json = {"output": "\n".join(map(str, prompts)) or None, "response_model": found.get("model")}
    put_usage(fields, found.get("usage"))
    tokens = fields.get("tokens", {})
    if tokens.get("output") and not as_dict(found.get("usage")).get("output_tokens_details"):
        others = [each for each in tokens.get("units", ()) if each["unit"] != "output_image_tokens"]
        tokens["units"] = [*others, {"unit": "output_image_tokens", "quantity": tokens["output"]}]
    if images:
        fields["tokens"] = {**tokens, "images": len(images)}
        if not tokens:
            fields["units"] = _whole_images(len(images), asked)
    return fields


def _whole_images(count: int, asked: Asked) -> Optional[List[Json]]:
    """Return images as DALL-E bills them: each by its quality and size, which the answer does not hold."""
    model = str(asked.get("model") or "dall-e-2").lower()  # the API's default
    family = _DALL_E.search(model)
    if family is None:
        return None
    quality = "hd" if family.group() == "dall-e-3" and asked.get("quality") == "hd" else "standard"
    size = asked.get("size")
    sized = size if isinstance(size, str) and _SIZE.match(size) else "1024x1024"
    return [{"unit": f"image_{quality}_{sized}", "quantity": count}]


def speech_fields(answer: Any, asked: Asked) -> Json:
    """Audio made of a text. Its form as events holds usage; its bytes do not, then the characters sent are counted."""
    fields: Json = {"output": "[audio]"}
    usage = None
    if "event-stream" in _content_type(answer):
        done = [e for e in events(_body(answer).decode("utf-8", "replace")) if e.get("type") == "speech.audio.done"]
        usage = done[-1].get("usage") if done else None
    put_usage(fields, usage)
    text = asked.get("input")
    if not fields["usage_reported"] and isinstance(text, str) and text:
        fields["units"] = [{"unit": "input_characters", "quantity": len(text)}]
    return fields


def transcription_fields(answer: Any, asked: Asked) -> Json:
    """A transcription or a translation, as JSON, text or subtitles."""
    if isinstance(answer, str):
        return {"output": answer, "usage_reported": False}
    found = plain(answer)
    fields: Json = {"output": found.get("text"), "response_model": found.get("model")}
    put_usage(fields, found.get("usage"))
    seconds = found.get("duration")
    if not found.get("usage") and isinstance(seconds, (int, float)) and seconds > 0:
        fields["units"] = [{"unit": "input_audio_seconds", "quantity": seconds}]
    return fields


def moderation_fields(answer: Any, asked: Asked) -> Json:
    """A moderation: the verdict on each input as a guardrail. It is free and reports no usage."""
    found = plain(answer)
    verdicts = as_list(found.get("results"))[:_GUARDRAILS]
    return {
        "response_model": found.get("model"),
        "response_id": found.get("id"),
        "guardrails": [_verdict(found.get("model"), verdict) for verdict in verdicts] or None,
        "usage_reported": False,
    }


def _verdict(model: Any, verdict: Json) -> Json:
    scores = {k: v for k, v in as_dict(verdict.get("category_scores")).items() if isinstance(v, (int, float))}
    worst = max(scores, key=lambda name: scores[name]) if scores else None
    guardrail: Json = {"name": model, "stage": "input", "action": "flag" if verdict.get("flagged") else "pass"}
    if worst is not None:
        guardrail["score"] = scores[worst]
        if verdict.get("flagged"):
            guardrail["category"] = worst
    return guardrail


READERS: Dict[str, Callable[[Any, Asked], Json]] = {
    "embeddings": embedding_fields,
    "image_generation": image_fields,
    "speech": speech_fields,
    "transcription": transcription_fields,
    "translation": transcription_fields,
    "moderation": moderation_fields,
}
"""Operation -> what reads its answer; anything else is a chat, a text completion or a response."""


def media_stream(op: str, chunks: List[Json]) -> Optional[Json]:
    """The answer that is built from a stream of images, of a transcription or of speech; None for another stream."""
    if op == "image_generation":
        done = [c for c in chunks if str(c.get("type", "")).endswith(".completed")]
        return {"data": done, "usage": done[-1].get("usage")} if done else {"data": []}
    if op in ("transcription", "translation"):
        whole = [c for c in chunks if c.get("type") == "transcript.text.done"]
        if whole:
            return whole[-1]
        return {"text": "".join(str(c.get("delta") or "") for c in chunks if c.get("type") == "transcript.text.delta")}
    return None


def events(text: str) -> Iterator[Json]:
    """The JSON of server-sent events; one that was cut off is left out."""
    for line in text.splitlines():
        data = line[5:].strip() if line.startswith("data:") else ""
        if data and data != "[DONE]":
            with contextlib.suppress(ValueError):
                yield as_dict(json.loads(data))


def _content_type(answer: Any) -> str:
    response = part(answer, "response")
    return str(response.headers.get("content-type", "")) if hasattr(response, "headers") else ""


def _body(answer: Any) -> bytes:
    content = getattr(answer, "content", b"")
    return content if isinstance(content, bytes) else b""
