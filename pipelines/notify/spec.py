"""A channel in the settings: a URL, or a table with a name, a kind, secrets and a route."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

from pipelines.notify.quiet import QuietHours, parse
from schemas.alerts import Alert, Severity
from schemas.errors import SettingsError

SEVERITIES: tuple[str, ...] = get_args(Severity)
SLACK_HOSTS = ("https://hooks.slack.com/", "https://hooks.slack-gov.com/")
_SETTING = "alert_channels"
_FIELDS = frozenset(
    {"name", "kind", "url", "url_file", "secret", "secrets", "secret_file", "min_severity", "route", "quiet"},
)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
_LEAST_SECRET = 24
"""Bytes, as Standard Webhooks 1.0 requires."""


@dataclass(frozen=True)
class ChannelSpec:
    """One receiver. ``url`` and ``secrets`` never show in a repr, a log or a record: a Slack URL is a secret."""

    name: str
    kind: str
    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Standard Webhooks secrets (``whsec_`` and base64); every one signs, so that they can be rotated. Of a Slack app
    its one bot token."""
    min_severity: str = "info"
    route: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Dimension of the series -> accepted values; all must match. Empty: everything."""
    quiet: QuietHours | None = None
    """When what is not critical waits; None: never."""

    def refusal(self, alert: Alert) -> str:
        """Why ``alert`` is not for this channel; "" where it is."""
        if SEVERITIES.index(alert.severity) < SEVERITIES.index(self.min_severity):
            return f"below {self.min_severity}"
        missed = [dim for dim, values in self.route.items() if alert.series.get(dim) not in values]
        return f"routed elsewhere by {', '.join(missed)}" if missed else ""


def parse_channels(entries: Sequence[str | Mapping[str, Any]], *, secrets: str = "") -> tuple[ChannelSpec, ...]:
    """Read the setting ``alert_channels``.

    Args:
        entries: URLs or tables ``{name, kind, url | url_file, secret | secrets | secret_file, min_severity, route,
            quiet}``.
        secrets: ``webhook_secret``: for webhooks that have none of their own; several by blank or comma.

    Raises:
        SettingsError: unknown kind or field, no URL, a name twice, a secret that is none. Never shows a URL.
    """
    specs = tuple(_spec(i, e if isinstance(e, Mapping) else {"url": e}, secrets) for i, e in enumerate(entries))
    names = [s.name for s in specs]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise SettingsError(_SETTING, f"two channels are called {', '.join(twice)}", "give each a name of its own")
    return specs


def secret_values(specs: Sequence[ChannelSpec]) -> list[str]:
    """Everything of ``specs`` that a log must never show."""
    return [value for spec in specs for value in (spec.url, *spec.secrets)]


def kind_of(url: str) -> str:
    """Return the kind of a plain URL: Slack's hosts are Slack, http(s) is a webhook, any other scheme is Apprise's."""
    if url.startswith(SLACK_HOSTS):
        return "slack"
    return "webhook" if url.split(":", 1)[0].lower() in ("http", "https") else "apprise"


def _spec(index: int, entry: Mapping[str, Any], fallback: str) -> ChannelSpec:
    at = f"{_SETTING}[{index}]"
    if unknown := sorted(set(entry) - _FIELDS):
        raise SettingsError(at, f"unknown field {unknown[0]}", f"known are {', '.join(sorted(_FIELDS))}")
    url = (str(entry.get("url") or "") or _content(at, entry.get("url_file"))).strip()
    if "://" not in url:
        raise SettingsError(at, "no URL", "set url, or url_file with the path of a file that holds it")
    kind = str(entry.get("kind") or kind_of(url))
    name = str(entry.get("name") or f"{kind}-{hashlib.sha256(url.encode()).hexdigest()[:6]}")
    if not _NAME.match(name):
        raise SettingsError(at, "the name is empty, too long or odd", "use letters, digits, dot, dash, underscore")
    least = str(entry.get("min_severity") or "info")
    if least not in SEVERITIES:
        raise SettingsError(at, f"min_severity {least!r} is none", f"use {', '.join(SEVERITIES)}")
    quiet = parse(at, str(entry["quiet"])) if entry.get("quiet") else None
    secrets, route = _secrets(at, kind, entry, fallback), _route(at, entry.get("route"))
    return ChannelSpec(name, kind, url, secrets, least, route, quiet)


def _secrets(at: str, kind: str, entry: Mapping[str, Any], fallback: str) -> tuple[str, ...]:
    given = entry.get("secrets") or entry.get("secret") or _content(at, entry.get("secret_file"))
    if kind == "slack_app":
        return (str(given).strip(),) if given else ()
    if kind != "webhook":
        return ()
    texts = re.split(r"[\s,]+", str(given or fallback)) if not isinstance(given, list | tuple) else map(str, given)
    found = tuple(dict.fromkeys(t.strip() for t in texts if t.strip()))
    for secret in found:
        try:
            size = len(base64.b64decode(secret.removeprefix("whsec_") + "==", validate=False))
        except (binascii.Error, ValueError):
            size = 0
        if size < _LEAST_SECRET:
            remedy = (
                f"use whsec_ and at least {_LEAST_SECRET} random bytes in base64 (docs/reference/alert-channels.md)"
            )
            raise SettingsError(at, "a webhook secret is not base64, or too short", remedy)
    return found


def _route(at: str, given: object) -> dict[str, tuple[str, ...]]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SettingsError(at, "route is not a table", 'write route = {app = ["shop"]}')
    pairs = cast("Mapping[str, Any]", given).items()
    return {str(d): tuple(map(str, v)) if isinstance(v, list | tuple) else (str(v),) for d, v in pairs}


def _content(at: str, path: object) -> str:
    if not path:
        return ""
    try:
        return Path(str(path)).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            at, f"cannot read the file it names: {type(error).__name__}", "check url_file and secret_file"
        ) from error
