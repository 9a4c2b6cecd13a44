"""``instrument()``: records the clients that are installed, the moment the app imports them, not before."""

import importlib.abc
import importlib.util
import sys
from typing import Any, Callable, Dict, List, Optional, Tuple

from tailrace_emitter.emitter import Emitter

_state: Dict[str, Any] = {"on": False, "emitter": None, "undo": [], "logger": None, "finder": None}


def _set(owner: Any, name: str, value: Any) -> None:
    """Replace an attribute and remember how to take that back."""
    own = vars(owner).get(name)
    _state["undo"].append((owner, name, own))
    setattr(owner, name, value)


def _patch_openai() -> None:
    import openai

    from tailrace_emitter.adapters import openai as adapter

    for cls, wrap in ((openai.OpenAI, adapter.recorded), (openai.AsyncOpenAI, adapter.recorded_async)):
        if not hasattr(cls.request, "__tailrace__"):
            _set(cls, "request", wrap(cls.request))
            _set(cls, "_build_request", adapter.counting(cls._build_request))
        if _state["emitter"] is not None:
            _set(cls, "_tailrace", _state["emitter"])


def _patch_litellm() -> None:
    import litellm

    from tailrace_emitter.adapters.litellm import TailraceLogger

    if _state["logger"] is None and not any(isinstance(c, TailraceLogger) for c in litellm.callbacks):
        logger = _state["logger"] = TailraceLogger(_state["emitter"])
        litellm.callbacks.append(logger)


def litellm_reports() -> bool:
    """Whether LiteLLM's own callback records its calls, so that the client below it must not."""
    litellm = sys.modules.get("litellm")
    callbacks = getattr(litellm, "callbacks", None) or ()
    return any(type(c).__name__ == "TailraceLogger" for c in list(callbacks))


_PATCHES: Tuple[Tuple[str, Callable[[], None]], ...] = (("openai", _patch_openai), ("litellm", _patch_litellm))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Patches a client right after the app has imported it."""

    def __init__(self) -> None:
        self._busy: List[str] = []

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        patch = dict(_PATCHES).get(fullname)
        if patch is None or fullname in self._busy:
            return None
        self._busy.append(fullname)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._busy.remove(fullname)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            run(module)
            _try(patch)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _try(patch: Callable[[], None]) -> None:
    try:
        if _state["on"]:
            patch()
    except Exception as problem:  # noqa: BLE001 - a client we do not know stays unrecorded, and works
        import logging

        logging.getLogger("tailrace_emitter").warning("tailrace_emitter: not instrumented: %s", problem)


def instrument(emitter: Optional[Emitter] = None) -> None:
    """Record OpenAI and LiteLLM calls with ``emitter`` (default: the default one). Calling it twice is once."""
    if _state["on"]:
        return
    _state.update(on=True, emitter=emitter)
    for name, patch in _PATCHES:
        if name in sys.modules:
            _try(patch)
    _state["finder"] = _AfterImport()
    sys.meta_path.insert(0, _state["finder"])


def uninstrument() -> None:
    """Put everything back as it was."""
    for owner, name, own in reversed(_state["undo"]):
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)
    litellm = sys.modules.get("litellm")
    if litellm is not None and _state["logger"] in litellm.callbacks:
        litellm.callbacks.remove(_state["logger"])
    if _state["finder"] in sys.meta_path:
        sys.meta_path.remove(_state["finder"])
    _state.update(on=False, emitter=None, undo=[], logger=None, finder=None)
