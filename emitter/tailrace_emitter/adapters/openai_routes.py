"""Which requests of the OpenAI API call a model, and which read the result of a call that another request began.

Source: the API reference at platform.openai.com. A server may add a prefix in front of a path.
"""

import re
from typing import Any, Mapping, NamedTuple, Optional

OPERATIONS = {
    "/chat/completions": "chat",
    "/completions": "text_completion",
    "/responses": "chat",
    "/responses/compact": "chat",
    "/embeddings": "embeddings",
    "/images/generations": "image_generation",
    "/images/edits": "image_generation",
    "/images/variations": "image_generation",
    "/audio/speech": "speech",
    "/audio/transcriptions": "transcription",
    "/audio/translations": "translation",
    "/moderations": "moderation",
}
_FOLLOW_UPS = (
    ("get", re.compile(r"/responses/([^/]+)$"), "retrieve"),
    ("post", re.compile(r"/responses/([^/]+)/cancel$"), "retrieve"),
    ("post", re.compile(r"/batches$"), "batch"),
    ("get", re.compile(r"/batches/([^/]+)$"), "batch"),
    ("get", re.compile(r"/files/([^/]+)/content$"), "file"),
)


class Route(NamedTuple):
    """The kind of a request and the id that it reads."""

    kind: str
    """``call``, ``background`` (a response that goes on without its request), ``retrieve``, ``batch``, ``file``."""
    op: str = "chat"
    key: str = ""
    """Id of the response, batch or file that is read; empty for a call."""


def operation(url: str) -> Optional[str]:
    """The operation behind the path of a POST, or None for one that is not a model call."""
    path = url.split("?", 1)[0].rstrip("/")
    found = OPERATIONS.get(path)
    return found or next((op for tail, op in OPERATIONS.items() if path.endswith(tail)), None)


def route(method: str, url: str, body: Mapping[str, Any]) -> Optional[Route]:
    """The route of a request, or None where it neither calls a model nor reads the result of a call."""
    method = method.lower()
    if method == "post":
        op = operation(url)
        if op is not None:
            return Route("background" if body.get("background") and "/responses" in url else "call", op)
    path = url.split("?", 1)[0].rstrip("/")
    for verb, pattern, kind in _FOLLOW_UPS:
        found = pattern.search(path) if verb == method else None
        if found is not None:
            return Route(kind, key=found.group(1) if pattern.groups else "")
    return None
