"""What an alert holds of prompts and answers, and how it is taken out before it leaves. Pure.

A drift alert carries excerpts of the texts that moved (causes of a dimension in ``CONTENT``), and its SQL carries a
vector made of them. Both land in the lake; neither goes to a channel by itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from schemas.alerts import CONTENT, Alert, Cause, Evidence

_VECTOR = re.compile(r"\[\s*(?:[-+]?[0-9][0-9.eE+-]*\s*,\s*){15}")
"""A list of more than 15 numbers: no SQL of ours holds one that is not a vector."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


def outgoing(alert: Alert, body: bytes, *, texts: bool) -> tuple[Alert, bytes]:
    """Return ``alert`` and its JSON as they may leave: ``body`` as it is where there is nothing to take out.

    Args:
        alert: as read from llm.alerts.
        body: its bytes there.
        texts: the setting ``alert_texts``: excerpts of prompts and answers may leave. A vector never does.
    """
    sent = without_vectors(alert if texts else without_texts(alert))
    return sent, body if sent == alert else sent.to_json()


def without_vectors(alert: Alert) -> Alert:
    """Leave out SQL that holds a vector; `show` has it."""
    if not _VECTOR.search(alert.evidence.sql):
        return alert
    return replace(alert, evidence=Evidence("", alert.evidence.call_ids))


def without_texts(alert: Alert) -> Alert:
    """Put an ellipsis in place of every excerpt, and name the command that shows it."""
    excerpts = sorted({c.value for c in alert.cause if c.dimension in CONTENT}, key=len, reverse=True)
    if not excerpts:
        return alert
    causes = tuple(_without(c, excerpts, show(alert)) if c.dimension in CONTENT else c for c in alert.cause)
    return replace(alert, cause=causes, title=_hidden(alert.title, excerpts))


def show(alert: Alert) -> str:
    """Return the command that shows all of ``alert``; one about a stage does not land."""
    if alert.detector == "up":
        return "tailrace status"
    return f"tailrace alerts show {alert.id[:8] if _UUID.fullmatch(alert.id) else alert.id}"


def _without(cause: Cause, excerpts: Sequence[str], command: str) -> Cause:
    text = _hidden(cause.text, excerpts)
    if any(e and e in text.replace("“…”", "") for e in excerpts):  # worded by a version that does not quote excerpts
        text = f"{cause.dimension}: {cause.share:.0%} of the change"
    return Cause(cause.dimension, "", cause.share, f"{text} (see `{command}`)")


def _hidden(text: str, excerpts: Sequence[str]) -> str:
    for excerpt in excerpts:
        text = text.replace(f"“{excerpt}”", "“…”")
    return text
