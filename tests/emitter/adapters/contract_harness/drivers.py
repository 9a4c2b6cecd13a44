"""How each client is asked in the contract test of the adapters, and what its provider answers."""

import asyncio
import json
import os
import warnings
from typing import Any, ClassVar

import anthropic
import openai
from google import genai

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else importing it asks the network for prices
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import litellm

SECRET, SPOKEN, ARGUMENT = "prompt-quetzal", "answer-quetzal", "argument-quetzal"
Json = dict[str, Any]


def sse(*events: Json, named: bool = False, end: str = "") -> str:
    head = "event: {type}\n" if named else ""
    return "".join(head.format(**e) + f"data: {json.dumps(e)}\n\n" for e in events) + end


class OpenAi:
    """Chat completions."""

    name = "openai"
    usage: ClassVar[Json] = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    error: ClassVar[Json] = {
        "error": {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}
    }
    raises: Any = openai.NotFoundError
    client: Any
    aclient: Any
    owners: tuple[tuple[type, str], ...] = (
        (openai.OpenAI, "request"),
        (openai.AsyncOpenAI, "request"),
        (openai.OpenAI, "_build_request"),
    )

    def whole(self, *, usage: bool = True) -> Json:
        call = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": f'{{"q": "{ARGUMENT}"}}'}}
        message = {"role": "assistant", "content": SPOKEN, "tool_calls": [call]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "gpt-4o", "choices": [choice]}
        return {**body, "usage": self.usage} if usage else body

    def chunks(self) -> str:
        piece = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
        texts = [{"index": 0, "delta": {"content": t}, "finish_reason": None} for t in (SPOKEN, " and", " more")]
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        events = [{**piece, "choices": [c]} for c in (*texts, last)] + [{**piece, "choices": [], "usage": self.usage}]
        return sse(*events, end="data: [DONE]\n\n")

    def given(self, text: str) -> Json:
        return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}

    def start(self, url: str) -> None:
        shared: Json = {"api_key": "k", "base_url": url, "max_retries": 0}
        self.client, self.aclient = openai.OpenAI(**shared), openai.AsyncOpenAI(**shared)

    def ask(self, text: str) -> Any:
        return self.client.chat.completions.create(**self.given(text))

    def stream(self, text: str) -> Any:
        return self.client.chat.completions.create(**self.given(text), stream=True)

    async def ask_async(self, text: str) -> Any:
        return await self.aclient.chat.completions.create(**self.given(text))

    async def stream_async(self, text: str) -> Any:
        return await self.aclient.chat.completions.create(**self.given(text), stream=True)

    async def close(self) -> None:
        await self.aclient.close()


class LiteLlm(OpenAi):
    """LiteLLM's completion."""

    name = "litellm"
    raises = litellm.NotFoundError
    owners = ()

    def given(self, text: str) -> Json:
        return {**super().given(text), "model": "openai/gpt-4o", "api_base": self.url, "api_key": "k", "max_retries": 0}

    def start(self, url: str) -> None:
        self.url = url

    def ask(self, text: str) -> Any:
        return litellm.completion(**self.given(text))

    def stream(self, text: str) -> Any:
        return litellm.completion(**self.given(text), stream=True)

    async def ask_async(self, text: str) -> Any:
        return await litellm.acompletion(**self.given(text))

    async def stream_async(self, text: str) -> Any:
        return await litellm.acompletion(**self.given(text), stream=True)

    async def close(self) -> None:
        await asyncio.sleep(0.1)


class Anthropic(OpenAi):
    """Messages."""

    name = "anthropic"
    usage: ClassVar[Json] = {"input_tokens": 7, "output_tokens": 2}
    error: ClassVar[Json] = {"type": "error", "error": {"type": "not_found_error", "message": "no such model"}}
    raises = anthropic.NotFoundError
    owners = (
        (anthropic._base_client.SyncAPIClient, "request"),
        (anthropic._base_client.AsyncAPIClient, "request"),
        (anthropic._base_client.SyncAPIClient, "_build_request"),
    )

    def whole(self, *, usage: bool = True) -> Json:
        blocks = [
            {"type": "text", "text": SPOKEN},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"q": ARGUMENT}},
        ]
        body: Json = {"id": "m1", "type": "message", "role": "assistant", "model": "claude-x", "content": blocks}
        body |= {"stop_reason": "end_turn", "stop_sequence": None}
        return {**body, "usage": self.usage} if usage else body

    def chunks(self) -> str:
        begun = {**self.whole(), "content": [], "stop_reason": None}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        deltas = [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}
            for t in (SPOKEN, " and", " more")
        ]
        stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}
        start = {"type": "message_start", "message": begun}
        return sse(start, block, *deltas, stop, {"type": "message_stop"}, named=True)

    def given(self, text: str) -> Json:
        return {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": text}]}

    def start(self, url: str) -> None:
        shared: Json = {"api_key": "k", "base_url": url, "max_retries": 0}
        self.client, self.aclient = anthropic.Anthropic(**shared), anthropic.AsyncAnthropic(**shared)

    def ask(self, text: str) -> Any:
        return self.client.messages.create(**self.given(text))

    def stream(self, text: str) -> Any:
        return self.client.messages.create(**self.given(text), stream=True)

    async def ask_async(self, text: str) -> Any:
        return await self.aclient.messages.create(**self.given(text))

    async def stream_async(self, text: str) -> Any:
        return await self.aclient.messages.create(**self.given(text), stream=True)


class GoogleGenAi(OpenAi):
    """The Gemini API."""

    name = "google_genai"
    usage: ClassVar[Json] = {"promptTokenCount": 7, "candidatesTokenCount": 2, "totalTokenCount": 9}
    error: ClassVar[Json] = {"error": {"code": 404, "status": "NOT_FOUND", "message": "no such model"}}
    raises = genai.errors.ClientError
    owners = (
        *((genai._api_client.BaseApiClient, n) for n in ("request", "async_request", "request_streamed")),
        (genai.models.Models, "generate_content_stream"),
        (genai.chats.Chat, "send_message_stream"),
    )

    def candidate(self, *parts: Json, **more: Any) -> Json:
        return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}

    def whole(self, *, usage: bool = True) -> Json:
        call = {"functionCall": {"name": "look", "args": {"q": ARGUMENT}}}
        body = self.candidate({"text": SPOKEN}, call, finishReason="STOP")
        return {**body, "usageMetadata": self.usage} if usage else body

    def chunks(self) -> str:
        texts = [self.candidate({"text": t}) for t in (SPOKEN, " and")]
        last = {**self.candidate({"text": " more"}, finishReason="STOP"), "usageMetadata": self.usage}
        return sse(*texts, last)

    def start(self, url: str) -> None:
        self.client = genai.Client(api_key="k", http_options={"base_url": url})

    def ask(self, text: str) -> Any:
        return self.client.models.generate_content(model="gemini-x", contents=text)

    def stream(self, text: str) -> Any:
        return self.client.models.generate_content_stream(model="gemini-x", contents=text)

    async def ask_async(self, text: str) -> Any:
        return await self.client.aio.models.generate_content(model="gemini-x", contents=text)

    async def stream_async(self, text: str) -> Any:
        return await self.client.aio.models.generate_content_stream(model="gemini-x", contents=text)

    async def close(self) -> None:
        await self.client._api_client._async_httpx_client.aclose()


DRIVERS = {d.name: d for d in (OpenAi(), LiteLlm(), Anthropic(), GoogleGenAi())}
