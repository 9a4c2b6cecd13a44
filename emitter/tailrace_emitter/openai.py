"""``from tailrace_emitter.openai import OpenAI, AsyncOpenAI``: the SDK's own clients, whose calls are recorded."""

from tailrace_emitter.adapters.openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

__all__ = ["AsyncAzureOpenAI", "AsyncOpenAI", "AzureOpenAI", "OpenAI"]
