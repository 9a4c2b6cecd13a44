"""Recorded exchanges through the real OpenAI SDK: the product's client, answered from the record."""

from __future__ import annotations

import contextlib
import inspect
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import httpx
import openai

from tailrace_emitter import Emitter
from tailrace_emitter.ids import new_id
from tailrace_emitter.openai import AzureOpenAI, OpenAI

HOSTS = {
    "azure_openai": "https://acme.openai.azure.com",
    "cerebras": "https://api.cerebras.ai",
    "deepseek": "https://api.deepseek.com",
    "gemini": "https://generativelanguage.googleapis.com",
    "groq": "https://api.groq.com",
    "heroku": "https://us.inference.heroku.com",
    "huggingface": "https://router.huggingface.co",
    "mistral": "https://api.mistral.ai",
    "ollama": "http://localhost:11434",
    "openai": "https://api.openai.com",
    "openrouter": "https://openrouter.ai",
    "portkey": "https://api.portkey.ai",
    "together": "https://api.together.xyz",
    "voyage": "https://api.voyageai.com",
    "writer": "https://api.writer.com",
    "zai": "https://api.z.ai",
}
"""Provider of a recording -> where it was recorded; the recordings keep the path only."""
ENDPOINTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "/chat/completions": ("chat", lambda client: client.chat.completions.create),
    "/responses/compact": ("chat", lambda client: client.responses.compact),
    "/responses": ("chat", lambda client: client.responses.create),
    "/embeddings": ("embeddings", lambda client: client.embeddings.create),
    "/images/generations": ("image_generation", lambda client: client.images.generate),
    "/completions": ("text_completion", lambda client: client.completions.create),
}
"""End of a path -> (operation, method of the SDK)."""


class Kept(Emitter):
    """The emitter without Kafka: what its background thread would send, of calls and of spans, is kept."""

    def __init__(self) -> None:
        super().__init__("proof", sigterm=False, content="full")
        self.messages: list[bytes] = []
        self._prepare()
        self._sender.put = self._keep  # type: ignore[method-assign]

    def _keep(
        self,
        kind: str,
        fields: dict[str, Any],
        *,
        ended: bool = True,
        event_id: str = "",
        ts_ns: int = 0,
        lazy: Any = None,
    ) -> str:
        event_id = event_id or new_id()
        said = lazy(fields) if lazy else fields
        self.messages.append(self._encode(kind, event_id, ts_ns or time.time_ns(), said, ended).value)
        return event_id


def endpoint(exchange: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (end of the path, operation) where the OpenAI SDK has a method for this exchange."""
    if exchange["method"] != "POST" or exchange["provider"] not in HOSTS or "/prompts/" in exchange["endpoint"]:
        return None
    if exchange["provider"] == "ollama" and "/v1/" not in exchange["endpoint"]:
        return None
    found = next((tail for tail in ENDPOINTS if exchange["endpoint"].endswith(tail)), None)
    return (found, ENDPOINTS[found][0]) if found else None


def model_of(exchange: Mapping[str, Any]) -> str:
    """Return the model asked for: of the body, else the deployment of an Azure path."""
    deployment = exchange["endpoint"].partition("/deployments/")[2].partition("/")[0]
    return str(exchange["request_body"].get("model") or deployment)


class Replay:
    """SDK clients whose transport answers with the recording of the moment."""

    def __init__(self, emitter: Kept) -> None:
        self._emitter = emitter
        self._clients: dict[tuple[str, bool], Any] = {}
        self._now: Mapping[str, Any] = {}
        self._http = httpx.Client(transport=httpx.MockTransport(self._answer))

    def call(self, exchange: Mapping[str, Any]) -> int:
        """Make the recorded request, read the recorded answer to its end, return how many messages were emitted."""
        before = len(self._emitter.messages)
        self._now = exchange
        tail, _ = endpoint(exchange) or ("", "")
        create = ENDPOINTS[tail][1](self._client(exchange, tail))
        body = {**exchange["request_body"], "model": model_of(exchange)}
        known = inspect.signature(create).parameters
        arguments = {name: value for name, value in body.items() if name in known}
        extra = {name: value for name, value in body.items() if name not in known}
        streamed = exchange["response_kind"] == "sse"
        with contextlib.suppress(openai.APIError):  # it is recorded; the comparison reads it
            answer = create(**(arguments | ({"stream": True} if streamed else {})), extra_body=extra or None)
            for _ in answer if streamed else ():
                pass
        return len(self._emitter.messages) - before

    def close(self) -> None:
        """Close the connections and the emitter."""
        self._http.close()
        self._emitter.close(0)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = self._now["response_body"]
        text = body if isinstance(body, str) else json.dumps(body)
        kind = "text/event-stream" if self._now["response_kind"] == "sse" else "application/json"
        return httpx.Response(self._now["status"], headers={"content-type": kind}, text=text)

    def _client(self, exchange: Mapping[str, Any], tail: str) -> Any:
        host = HOSTS[exchange["provider"]]
        deployed = exchange["provider"] == "azure_openai" and "/deployments/" in exchange["endpoint"]
        base = host if deployed else host + exchange["endpoint"].removesuffix(tail)
        if (base, deployed) not in self._clients:
            common: dict[str, Any] = {
                "api_key": "none",
                "http_client": self._http,
                "tailrace": self._emitter,
                "max_retries": 0,
            }
            azure: Any = partial(AzureOpenAI, azure_endpoint=base, api_version="2024-10-21")
            self._clients[base, deployed] = (azure if deployed else partial(OpenAI, base_url=base))(**common)
        return self._clients[base, deployed]
