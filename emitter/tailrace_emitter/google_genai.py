"""``from tailrace_emitter.google_genai import Client``: the SDK's own client, recorded."""

from tailrace_emitter.adapters.google_genai import Client

__all__ = ["Client"]
