"""Write docs/reference/clients.md; `make docs` runs it after an adapter, an extra or the lock was changed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tailrace_emitter.adapters import ADAPTERS

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "clients.md"
HEAD = """# Clients

Made by `make docs` from the adapters, their extras and `requirements.lock`. Each example is run by a test, against a
server that answers as the API does (`tests/docs/test_clients.py`). A call belongs to who asked: the fields of
`context(...)` are read when the request is sent, and a stream keeps them whoever reads it.
`tailrace_emitter.instrument()` records the clients that an app makes with the SDKs' own classes, and `uninstrument()`
puts the SDKs back.

One contract test runs over all adapters (`tests/emitter/adapters/test_contract.py`): the answer is the SDK's own
object; the owner is that of the request, in threads, tasks and interleaved streams; an aborted stream is `cancelled`;
an error is recorded and raised again; usage that is missing stays NULL; content mode `none` leaks no text; a broken
emitter never reaches the app.
"""


class Client(NamedTuple):
    """What the page says of a client beside what the adapter says itself.

    Args:
        title: its name.
        start: code that makes one call.
        cases: providers of the recorded exchanges -> how many a test replays or an independent reading checks.
        providers: what ``provider`` is in its events.
        gaps: what is not recorded, or not in full.
    """

    title: str
    start: str
    cases: dict[str, int]
    providers: str
    gaps: tuple[str, ...]


CLIENTS = {
    "openai": Client(
        "OpenAI",
        """from tailrace_emitter.openai import OpenAI

client = OpenAI()
answer = client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}])
print(answer.choices[0].message.content)
""",
        {"openai": 1023, "azure_openai": 61},
        "`openai`, `azure.ai.openai`, or that of the host",
        ("Realtime sessions (websockets) are not recorded.", "Fine-tuning jobs and assistants are not recorded."),
    ),
    "litellm": Client(
        "LiteLLM",
        """import litellm
from tailrace_emitter.litellm import TailraceLogger

litellm.callbacks = [TailraceLogger()]
answer = litellm.completion(model="openai/gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}])
""",
        {},
        "LiteLLM's `custom_llm_provider`",
        (
            "A stream that the app drops is recorded when Python's collector frees it, or at the end of the process.",
            "Tokens that LiteLLM counts itself are left out; where it does not keep the provider's answer (a few "
            "providers, audio), they cannot be told apart.",
            "`moderation` is recorded when it is called as `litellm.moderation`, not by a name imported before.",
        ),
    ),
    "anthropic": Client(
        "Anthropic",
        """from tailrace_emitter.anthropic import Anthropic

client = Anthropic()
answer = client.messages.create(model="claude-sonnet-4-5", max_tokens=64, messages=[{"role": "user", "content": "Hi"}])
print(answer.content[0].text)
""",
        {"anthropic": 363},
        "`anthropic`; `aws.bedrock` and `gcp.vertex_ai` from the client or the host",
        (
            "A result of a batch has no input text and no latency, and its time is that of reading it.",
            "The owner of such a result is that of the batch where the same process made it, else that of the reader.",
            "The output of an aborted stream is unknown: the API reports it at the end.",
            "Managed agents (sessions, deployments) are not recorded. Counting tokens, files and models are no calls.",
            "Text completions (`/v1/complete`) are recorded without usage, which that API does not report.",
        ),
    ),
    "google_genai": Client(
        "Google GenAI",
        """from tailrace_emitter.google_genai import Client

client = Client()
answer = client.models.generate_content(model="gemini-2.5-flash", contents="Hi")
print(answer.text)
""",
        {"gemini": 344, "vertex": 126},
        "`gcp.gemini` or `gcp.vertex_ai`, from the host",
        (
            "The live API (websockets), batches and tuning are not recorded.",
            "A cache that is made explicitly is no call: its storage is not counted. Reading it is.",
            "A video is recorded when it is asked for, without usage.",
            "Retries inside the SDK are not counted.",
            "The output of an aborted stream is unknown.",
        ),
    ),
}


class Vendor(NamedTuple):
    """A server that speaks OpenAI's API.

    Args:
        title: its name.
        base_url: its address.
        model: one of its models.
        provider: what ``provider`` is in the events; empty: NULL, for a host that does not name it.
        recorded: its name among the recorded exchanges.
        cases: how many there are.
    """

    title: str
    base_url: str
    model: str
    provider: str
    recorded: str
    cases: int


VENDORS = (
    Vendor("vLLM", "http://localhost:8000/v1", "meta-llama/Llama-3.1-8B-Instruct", "", "", 0),
    Vendor("Ollama", "http://localhost:11434/v1", "llama3.2", "", "ollama", 5),
    Vendor("Groq", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile", "groq", "groq", 90),
    Vendor("xAI", "https://api.x.ai/v1", "grok-4", "x_ai", "", 0),
    Vendor("Moonshot", "https://api.moonshot.ai/v1", "kimi-k2-0905-preview", "moonshot_ai", "", 0),
    Vendor("DeepSeek", "https://api.deepseek.com", "deepseek-chat", "deepseek", "deepseek", 23),
    Vendor("OpenRouter", "https://openrouter.ai/api/v1", "openai/gpt-4o-mini", "openrouter", "openrouter", 65),
    Vendor(
        "Together",
        "https://api.together.xyz/v1",
        "meta-llama/Llama-3.3-70B-Instruct-Turbo",
        "together_ai",
        "together",
        10,
    ),
    Vendor(
        "Fireworks",
        "https://api.fireworks.ai/inference/v1",
        "accounts/fireworks/models/llama-v3p1-8b-instruct",
        "fireworks_ai",
        "",
        0,
    ),
)


def vendor_start(vendor: Vendor) -> str:
    """Code that makes one call of a vendor's server."""
    return f"""from tailrace_emitter.openai import OpenAI

client = OpenAI(base_url="{vendor.base_url}", api_key="...")
question = [{{"role": "user", "content": "Hi"}}]
answer = client.chat.completions.create(model="{vendor.model}", messages=question)
"""


def _versions() -> dict[str, str]:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", lock, re.MULTILINE))


def _oldest() -> dict[str, str]:
    extras = (ROOT / "emitter" / "pyproject.toml").read_text(encoding="utf-8")
    return dict(re.findall(r'^[a-z-]+ = \["([a-z-]+)>=([^"]+)"\]', extras, re.MULTILINE))


def _code(source: str) -> str:
    return f"```python\n{source}```\n"


def page() -> str:
    """The whole page."""
    versions, oldest = _versions(), _oldest()
    head = "| client | extra | tested | oldest tried | `provider` | recorded cases |"
    lines = [HEAD, head, "|---|---|---|---|---|---|"]
    for adapter in ADAPTERS:
        client = CLIENTS[adapter.name]
        cases = ", ".join(f"{n} {name}" for name, n in client.cases.items()) or "through the callback's payload"
        name, extra = adapter.distribution, adapter.name.replace("_", "-")
        lines.append(
            f"| [{client.title}](#{client.title.lower().replace(' ', '-')}) | `tailrace-emitter[{extra}]` "
            f"| {name} {versions[name]} | {oldest[name]} | {client.providers} | {cases} |"
        )
    for adapter in ADAPTERS:
        client = CLIENTS[adapter.name]
        lines += ["", f"## {client.title}", "", f"Recorded: {', '.join(adapter.shapes)}.", "", _code(client.start)]
        lines += ["Known gaps:", "", *(f"- {gap}" for gap in client.gaps)]
    lines += [
        *("", "## Servers that speak OpenAI's API", ""),
        "By the OpenAI client with a `base_url`; each is billed by a test at its own host, whole and streamed, by the",
        "usage that its vendor documents or that was recorded (`tests/emitter/adapters/test_vendors.py`). Where the",
        'host does not name the provider, it is NULL; `context(provider="vllm")` names it.',
        *("", "| server | `base_url` | `provider` | recorded cases |", "|---|---|---|---|"),
    ]
    for vendor in VENDORS:
        provider = f"`{vendor.provider}`" if vendor.provider else "NULL"
        lines.append(f"| {vendor.title} | `{vendor.base_url}` | {provider} | {vendor.cases or 'none'} |")
    for vendor in VENDORS:
        lines += ["", f"### {vendor.title}", "", _code(vendor_start(vendor)).rstrip()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")
