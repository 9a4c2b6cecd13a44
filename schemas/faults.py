"""Named crash points for the fault tests: nothing happens unless ``TAILRACE_FAULT`` names one."""

from __future__ import annotations

import os
import signal
import time

_passes: dict[str, int] = {}


def _plan() -> tuple[str, str, int] | None:
    text = os.environ.get("TAILRACE_FAULT", "")
    if not text:
        return None
    name, _, rest = text.partition(":")
    action, _, nth = rest.partition(":")
    return name, action or "kill", int(nth or 1)


_PLAN = _plan()


def point(name: str) -> None:
    """Crash, hang or raise here when the environment asks: ``NAME:kill[:n]``, ``NAME:hang[:n]``, ``NAME:raise[:n]``.

    Raises:
        OSError: where the plan has ``raise``; the stage handles it like any failure of another system.
    """
    if _PLAN is None or _PLAN[0] != name:
        return
    _passes[name] = _passes.get(name, 0) + 1
    if _passes[name] != _PLAN[2]:
        return
    if _PLAN[1] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif _PLAN[1] == "hang":
        time.sleep(3600)
    raise OSError(f"fault injected at {name}")
