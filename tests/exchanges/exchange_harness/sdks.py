"""Recorded exchanges through the real Anthropic and Google GenAI SDKs: the product's clients, with recorded answers."""

from __future__ import annotations

import base64
import contextlib
import inspect
import json
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote

import anthropic
import httpx
import httpx2
from exchange_harness.replay import Kept
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from tailrace_emitter.anthropic import Anthropic, AnthropicBedrock
from tailrace_emitter.google_genai import Client

Json = Mapping[str, Any]
_ANTHROPIC = {"/v1/messages": "chat"}
_BEDROCK = ("/invoke", "/invoke-with-response-stream")
"""Claude on Bedrock, which the Anthropic SDK calls too; a refusal is AWS's own."""
_GOOGLE = {
    ":generateContent": "chat",
    ":streamGenerateContent": "chat",
    ":batchEmbedContents": "embeddings",
    ":predict": "embeddings",
}
"""End of a path -> operation. The one recorded ``predict`` is of embeddings."""
_WORDS = {
    "finishReason": ("FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS"),
    "modality": ("MODALITY_UNSPECIFIED", "TEXT", "IMAGE", "VIDEO", "AUDIO", "DOCUMENT"),
    "trafficType": ("TRAFFIC_TYPE_UNSPECIFIED", "ON_DEMAND", "PROVISIONED_THROUGHPUT"),
}
"""Field -> its words by number: 11 answers were recorded through a client that asks for numbers (vertexai)."""
_LOCATION = re.compile(r"/locations/([^/]+)/")


def endpoint(exchange: Json) -> tuple[str, str] | None:
    """Return (end of the path, operation) where one of the two SDKs has a method for this exchange."""
    path, provider = exchange["endpoint"].partition("?")[0], exchange["provider"]
    if provider == "bedrock":
        claude = "anthropic.claude" in path and "messages" in (exchange["request_body"] or ())
        tail = "/" + path.rpartition("/")[2]
        return (tail, "chat") if claude and tail in _BEDROCK and exchange["status"] == 200 else None
    if exchange["method"].upper() != "POST" or provider not in ("anthropic", "gemini", "vertex"):
        return None
    known = _ANTHROPIC if provider == "anthropic" else _GOOGLE
    return next(((tail, op) for tail, op in known.items() if path.endswith(tail)), None)


def model_of(exchange: Json) -> str:
    """Return the model asked for: of the body, or of Google's path."""
    if exchange["provider"] == "anthropic":
        return str(exchange["request_body"]["model"])
    if exchange["provider"] == "bedrock":
        return unquote(exchange["endpoint"].split("/")[2])
    return str(exchange["endpoint"].partition("models/")[2].partition(":")[0])


def whole(value: Any) -> Any:
    """Return a recording as this SDK gets it: cut base64 values are base64 again, numbers of enums are their words."""
    if isinstance(value, dict):
        return {name: _whole_field(name, one) for name, one in value.items()}
    return [whole(one) for one in value if not str(one).startswith("[truncated ")] if isinstance(value, list) else value


def _whole_field(name: str, value: Any) -> Any:
    if name in ("thoughtSignature", "data"):
        return "AAAA"
    if name in _WORDS and isinstance(value, int):
        return _WORDS[name][value]
    return whole(value)


class Replay:
    """Clients of both SDKs whose transport answers with the recording of the moment."""

    def __init__(self, emitter: Kept) -> None:
        self._emitter = emitter
        self._now: Json = {}
        self._transport = httpx.MockTransport(lambda _: httpx.Response(**self._answer()))
        self._http = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(**self._answer())))
        self._anthropic = Anthropic(
            api_key="none", http_client=self._http, tailrace=emitter, max_retries=0, timeout=600
        )
        self._bedrock = AnthropicBedrock(
            api_key="none", aws_region="us-east-1", http_client=self._http, tailrace=emitter, max_retries=0, timeout=600
        )
        self._google: dict[str | None, Any] = {}

    def call(self, exchange: Json) -> int:
        """Make the recorded request, read the recorded answer to its end, return how many messages were emitted."""
        before = len(self._emitter.messages)
        self._now = exchange
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names of retired models, words newer than the SDK
            if exchange["provider"] in ("anthropic", "bedrock"):
                self._ask_anthropic(exchange)
            else:
                self._ask_google(exchange)
        return len(self._emitter.messages) - before

    def close(self) -> None:
        """Close the connections and the emitter."""
        self._http.close()
        self._emitter.close(0)

    def _answer(self) -> dict[str, Any]:
        body, kind = self._now["response_body"], "application/json"
        google = self._now["provider"] in ("gemini", "vertex")
        if self._now["response_kind"] == "aws_eventstream":
            content = b"".join(map(_aws_event, body))
            return {
                "status_code": 200,
                "headers": {"content-type": "application/vnd.amazon.eventstream"},
                "content": content,
            }
        if self._now["response_kind"] == "sse" or isinstance(body, list):
            kind = "text/event-stream"
            body = _sse(body if isinstance(body, list) else _frames(body)) if google else body
        else:
            body = json.dumps(whole(body) if google else body)
        return {"status_code": self._now["status"], "headers": {"content-type": kind}, "text": body}

    def _ask_anthropic(self, exchange: Json) -> None:
        bedrock = exchange["provider"] == "bedrock"
        create: Callable[..., Any] = (self._bedrock if bedrock else self._anthropic).messages.create
        known = inspect.signature(create).parameters
        body = {**exchange["request_body"], "model": model_of(exchange)}
        body["stream"] = exchange["response_kind"] != "json"
        arguments = {name: value for name, value in body.items() if name in known}
        extra = {name: value for name, value in body.items() if name not in known}
        with contextlib.suppress(anthropic.APIError):  # it is recorded; the comparison reads it
            answer = create(**arguments, extra_body=extra or None)
            for _ in answer if body["stream"] else ():
                pass

    def _ask_google(self, exchange: Json) -> None:
        models, model = self._client(exchange).models, model_of(exchange)
        body = whole(exchange["request_body"])
        with contextlib.suppress(errors.APIError):
            if "contents" not in body:
                texts = [part["text"] for one in body.get("requests", ()) for part in one["content"]["parts"]]
                models.embed_content(model=model, contents=texts or [one["content"] for one in body["instances"]])
            elif exchange["response_kind"] == "sse" or isinstance(exchange["response_body"], list):
                list(models.generate_content_stream(model=model, **_asked(body)))
            else:
                models.generate_content(model=model, **_asked(body))

    def _client(self, exchange: Json) -> Any:
        found = _LOCATION.search(exchange["endpoint"])
        location = found.group(1) if found else None
        if location not in self._google:
            http = types.HttpOptions(client_args={"transport": self._transport})
            vertex = {"vertexai": True, "project": "p", "location": location, "credentials": Credentials("token")}
            named: Any = vertex if location else {"api_key": "none"}
            self._google[location] = Client(http_options=http, tailrace=self._emitter, **named)
        return self._google[location]


def _sse(frames: Iterable[Any]) -> str:
    return "".join(f"data: {json.dumps(whole(frame))}\r\n\r\n" for frame in frames)


def _aws_event(frame: Any) -> bytes:
    """Encode one event as Bedrock does ("Event stream encoding" in the reference of AWS's API for streams)."""
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(frame).encode()).decode()}).encode()
    headers = b""
    for name, value in ((":event-type", "chunk"), (":content-type", "application/json"), (":message-type", "event")):
        headers += struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    event = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + payload
    return event + struct.pack("!I", zlib.crc32(event))


def _frames(body: str) -> list[Any]:
    return [json.loads(line[5:]) for line in body.splitlines() if line.startswith("data:")]


def _asked(body: Json) -> dict[str, Any]:
    """Return the recorded request as far as this version of the SDK has its fields; the model is what is compared."""
    config = {k: v for k, v in (body.get("generationConfig") or {}).items() if "Schema" not in k}
    try:
        return {
            "contents": [types.Content.model_validate(one) for one in body["contents"]],
            "config": types.GenerateContentConfig.model_validate(
                {**config, "systemInstruction": body.get("systemInstruction")}
            ),
        }
    except ValueError:
        return {"contents": "Hi", "config": None}
