"""One provider call inside whatever wraps it: a scripted provider, real clients, and the bill that lands."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
from exchange_harness.product import landed
from exchange_harness.replay import Kept

from pipelines.pricing import PriceBooks, default_book
from tailrace_emitter.openai import AsyncOpenAI, OpenAI

AT = 1_787_227_200_000_000
"""2026-08-20T12:00:00Z in µs."""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
"""0.0075 USD of gpt-4o."""
Answer = tuple[int, Any]


def chat(model: str = "gpt-4o-2024-08-06", usage: Any = USAGE, **more: Any) -> Answer:
    """An answer of chat completions."""
    message = {"role": "assistant", "content": "Hello."}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model, "choices": choices}
    return 200, {**body, "usage": usage, **more}


def stream(model: str = "gpt-4o-2024-08-06", usage: Any = USAGE) -> Answer:
    """A stream of three chunks and one of usage."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model}
    chunks = [
        {**base, "choices": [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}]}
        for text in ("Hel", "lo.")
    ]
    chunks.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        chunks.append({**base, "choices": [], "usage": usage})
    return 200, "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def failed(status: int) -> Answer:
    """An error of the provider."""
    return status, {"error": {"message": "no", "type": "server_error", "code": None}}


class World:
    """A provider that gives scripted answers, clients of it, and what they recorded."""

    def __init__(self) -> None:
        self.emitter = Kept()
        self.answers: list[Answer] = []
        self.asked = 0
        self.http = httpx.Client(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        status, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        text, kind = (body, "text/event-stream") if isinstance(body, str) else (json.dumps(body), "application/json")
        return httpx.Response(status, headers={"content-type": kind, "retry-after-ms": "1"}, text=text)

    def client(self, *answers: Answer, base_url: str = "https://api.openai.com/v1", **how: Any) -> OpenAI:
        """The recorded client; the last answer is given to every request after it."""
        self.answers = list(answers or [chat()])
        return OpenAI(api_key="none", base_url=base_url, http_client=self.http, tailrace=self.emitter, **how)

    def async_client(self, *answers: Answer, **how: Any) -> AsyncOpenAI:
        """The same for asyncio."""
        self.answers = list(answers or [chat()])
        http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))
        return AsyncOpenAI(api_key="none", http_client=http, tailrace=self.emitter, **how)

    def ask(self, *answers: Answer, **how: Any) -> Callable[..., Any]:
        """``chat.completions.create`` of the recorded client, with a model and a message."""
        create = self.client(*answers, **how).chat.completions.create
        return partial(create, model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])

    def bill(self) -> tuple[int, Decimal]:
        """Return (events that carry money, their sum), as the public views count them."""
        rows = landed(self.emitter.messages, PriceBooks([default_book()]), AT)
        costs = [row["cost_usd"] for row in rows if row["cost_usd"] and not row["_dup"]]
        return len(costs), sum(costs, Decimal(0))
