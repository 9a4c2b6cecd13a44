"""One file per client whose calls can be recorded, and the list of them.

To add one: a module here with ``instrument(patches)``, its test, a line in ``ADAPTERS``, and an extra in this
distribution's ``pyproject.toml``.
"""

import importlib
from typing import Any, Callable, List, NamedTuple, Tuple


class Patches:
    """The attributes that ``instrument()`` replaced in the clients, and how to restore them.

    Args:
        emitter: records the calls; None: the default emitter.
    """

    def __init__(self, emitter: Any) -> None:
        self.emitter = emitter
        self._undo: List[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute of a class or a module."""
        if name in vars(owner):
            own = vars(owner)[name]
            self._undo.append(lambda: setattr(owner, name, own))
        else:
            self._undo.append(lambda: delattr(owner, name))
        setattr(owner, name, value)

    def on_undo(self, undo: Callable[[], None]) -> None:
        """Call ``undo`` when the replaced attributes are restored."""
        self._undo.append(undo)

    def undo(self) -> None:
        """Restore every replaced attribute, the last one first."""
        while self._undo:
            self._undo.pop()()


class Adapter(NamedTuple):
    """A client whose calls can be recorded. Its module is imported when it is needed, not before.

    Args:
        name: of the adapter: its module here, and the extra of this distribution that installs the client.
        package: the client's package, as it is imported; its calls are recorded from its import on.
        distribution: the client's distribution.
        shapes: what of the client's API is recorded.
    """

    name: str
    package: str
    distribution: str
    shapes: Tuple[str, ...]

    def instrument(self, patches: Patches) -> None:
        """Record the calls of the client, which must be installed."""
        importlib.import_module(f"{__name__}.{self.name}").instrument(patches)


ADAPTERS = (
    Adapter(
        "openai",
        "openai",
        "openai",
        (
            "chat completions",
            "text completions",
            "responses",
            "background responses",
            "embeddings",
            "images",
            "speech",
            "transcriptions and translations",
            "moderations",
            "batch results",
            "streams",
            "stream helpers",
            "raw responses",
            "Azure OpenAI clients",
        ),
    ),
    Adapter(
        "litellm",
        "litellm",
        "litellm",
        (
            "completion",
            "text completion",
            "responses",
            "embeddings",
            "images",
            "speech",
            "transcription",
            "rerank",
            "moderation",
            "streams that are left early",
        ),
    ),
    Adapter(
        "anthropic",
        "anthropic",
        "anthropic",
        (
            "messages",
            "beta messages",
            "streams",
            "stream helper",
            "raw responses",
            "tool runner",
            "batch results",
            "Bedrock and Vertex AI clients",
        ),
    ),
    Adapter(
        "google_genai",
        "google.genai",
        "google-genai",
        (
            "generate_content",
            "generate_content_stream",
            "chats",
            "automatic function calling",
            "embed_content",
            "generate_images",
            "generate_videos (the request)",
        ),
    ),
)
