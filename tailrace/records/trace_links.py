"""Links that open the trace of a call in another system: templates of the settings, filled with a trace id. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlsplit

from schemas.errors import SettingsError
from warehouse.query.readonly import ReadOnlyLake

FIELD = "{trace_id}"
_EXAMPLE = "write for example https://app.datadoghq.com/apm/trace/{trace_id}"
_TRACES = (
    "SELECT DISTINCT trace_id FROM calls WHERE id IN (SELECT unnest($1)::UUID) AND trace_id IS NOT NULL ORDER BY 1"
)
_MOST = 3
"""Traces of one alert that are linked."""


def links(templates: Mapping[str, str], traces: Iterable[str]) -> list[str]:
    """Return ``name: address`` for every template and trace.

    Raises:
        SettingsError: a template is no address that others can open, or has no place for the trace id.
    """
    for name, template in templates.items():
        check(name, template)
    return [
        f"{name}: {template.replace(FIELD, quote(trace, safe=''))}"
        for trace in list(traces)[:_MOST]
        for name, template in templates.items()
    ]


def of_calls(lake: ReadOnlyLake, templates: Mapping[str, str], call_ids: Iterable[str]) -> list[str]:
    """Return the links of the traces that calls of the lake are a part of; the calls that have none are left out.

    Raises:
        SettingsError: see ``links``.
    """
    ids = list(call_ids)
    if not templates or not ids:
        return links(templates, ())
    return links(templates, [row["trace_id"] for row in lake.query(_TRACES, [ids]).to_pylist()])


def check(name: str, template: str) -> None:
    """Refuse a template that makes no link.

    Raises:
        SettingsError: it is no http address, has no place for the trace id, or leads to the reader's own machine.
    """
    setting = f"trace_links.{name[:40]}"
    if FIELD not in template:
        raise SettingsError(setting, f"it has no {FIELD}", _EXAMPLE)
    try:
        parts = urlsplit(template.replace(FIELD, "0"))
        host = parts.hostname or ""
    except ValueError:
        raise SettingsError(setting, "it is no address", _EXAMPLE) from None
    if parts.scheme not in ("http", "https") or not host or not template.isprintable() or " " in template:
        raise SettingsError(setting, "it is no http or https address", _EXAMPLE)
    if _is_loopback(host):
        raise SettingsError(
            setting, "its host is loopback, which nobody else can open", "name the host as others reach it"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified
