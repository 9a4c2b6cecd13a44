"""``instrument()``: records the clients that are installed, the moment the app imports them, not before."""

import importlib.abc
import importlib.util
import sys
from typing import Any, Dict, List, Optional

from tailrace_emitter.adapters import ADAPTERS, Adapter, Patches
from tailrace_emitter.emitter import Emitter

_state: Dict[str, Any] = {"patches": None, "finder": None}


def litellm_reports() -> bool:
    """Whether LiteLLM's own callback records its calls, so that the client below it must not."""
    litellm = sys.modules.get("litellm")
    callbacks = getattr(litellm, "callbacks", None) or ()
    return any(type(c).__name__ == "TailraceLogger" for c in list(callbacks))


class _AfterImport(importlib.abc.MetaPathFinder):
    """Patches a client right after the app has imported it."""

    def __init__(self) -> None:
        self._busy: List[str] = []

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        adapter = next((a for a in ADAPTERS if a.package == fullname), None)
        if adapter is None or fullname in self._busy:
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
            _try(adapter)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _try(adapter: Adapter) -> None:
    try:
        if _state["patches"] is not None:
            adapter.instrument(_state["patches"])
    except Exception as problem:  # noqa: BLE001 - a client we do not know stays unrecorded, and works
        import logging

        logging.getLogger("tailrace_emitter").warning("tailrace_emitter: not instrumented: %s", problem)


def instrument(emitter: Optional[Emitter] = None) -> None:
    """Record the calls of all clients with ``emitter`` (default: the default one). Calling it twice is once."""
    if _state["patches"] is not None:
        return
    _state.update(patches=Patches(emitter), finder=_AfterImport())
    for adapter in ADAPTERS:
        if adapter.package in sys.modules:
            _try(adapter)
    sys.meta_path.insert(0, _state["finder"])


def uninstrument() -> None:
    """Put everything back as it was."""
    if _state["patches"] is not None:
        _state["patches"].undo()
    if _state["finder"] in sys.meta_path:
        sys.meta_path.remove(_state["finder"])
    _state.update(patches=None, finder=None)
