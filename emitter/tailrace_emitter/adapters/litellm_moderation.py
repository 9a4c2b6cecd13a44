"""LiteLLM's ``moderation()``: LiteLLM makes no callback for it, unlike for ``amoderation()``."""

import contextlib
import functools
from functools import partial
from typing import Any, Callable, Dict, List, Optional

from tailrace_emitter.adapters.openai_fields import answer_fields
from tailrace_emitter.adapters.providers import provider_of
from tailrace_emitter.adapters.recording import Recording
from tailrace_emitter.emitter import Emitter

_MODEL = "omni-moderation-latest"
"""What the API takes where no model is named."""


def watch(emitters: Callable[[], List[Emitter]]) -> None:
    """Record calls of ``litellm.moderation`` with ``emitters()``; once for a process."""
    import litellm

    ask = litellm.moderation
    if hasattr(ask, "__tailrace__"):
        return

    @functools.wraps(ask)
    def asked(*args: Any, **kwargs: Any) -> Any:
        recordings: List[Recording] = []
        with contextlib.suppress(Exception):
            given = {**dict(zip(("input", "model"), args)), **kwargs}
            host = _host(given.get("api_base"))
            recordings = [_recording(emitter, given, host) for emitter in emitters()]
        try:
            answer = ask(*args, **kwargs)
        except BaseException as error:
            _end(recordings, dict, error)
            raise
        _end(recordings, partial(answer_fields, "moderation", answer))
        return answer

    asked.__tailrace__ = ask  # type: ignore[attr-defined]
    litellm.moderation = asked


def _recording(emitter: Emitter, given: Dict[str, Any], host: str) -> Recording:
    model = given.get("model") or _MODEL

    def request() -> Dict[str, Any]:
        return {"op": "moderation", "model": model, "input": given.get("input")}

    return Recording(
        emitter,
        request,
        host=host,
        provider_of=lambda fields: provider_of(host, fields.get("response_model"), fields.get("model")),
        code_of=lambda error: getattr(error, "code", None),
    )


def _end(
    recordings: List[Recording], answer: Callable[[], Dict[str, Any]], error: Optional[BaseException] = None
) -> None:
    for recording in recordings:
        with contextlib.suppress(Exception):
            recording.end(answer, error)


def _host(base: Any) -> str:
    from urllib.parse import urlsplit

    return (urlsplit(base).hostname if isinstance(base, str) else None) or "api.openai.com"
