"""Anything else that Apprise reaches: mail, Teams, Discord, Telegram, pagers (https://github.com/caronc/apprise).

Apprise opens its connections itself: it looks hosts up again and follows the proxies of the environment, so an address
is checked here, at the start and before every attempt, but not pinned, and answers are not bounded. Redirects are off.
Its schemes for URLs of one's own choice (json://, xml://, form://) are refused: `webhook` does that behind the guard.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, cast
from urllib.parse import parse_qs, urlsplit

import apprise

from pipelines.notify import format as words
from pipelines.notify.channels.base import Message, Report
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import RefusedTargetError, UnreachableError
from pipelines.notify.outcome import Outcome
from pipelines.notify.plain import plain
from pipelines.notify.spec import ChannelSpec
from schemas.errors import SettingsError

_BY_THE_GUARD = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})
_START_LOOK_UP_S = 3.0


class AppriseChannel:
    """Sends a title and plain text through one Apprise URL."""

    kind: ClassVar[str] = "apprise"
    parallel: ClassVar[int] = 1
    coalesces: ClassVar[bool] = True

    def __init__(self, spec: ChannelSpec, poster: Poster) -> None:
        asset = apprise.AppriseAsset(app_id="Tailrace", app_desc="Tailrace alerts", app_url="", http_redirects=False)
        self._service = apprise.Apprise(asset=asset)
        made = _made(self._service, spec)
        self._deadline_s = poster.deadline_s
        self._guard = poster.guard
        self._targets = [self._guard.place(host, port) for host, port in _places(made)]
        self._check_addresses(min(self._deadline_s, _START_LOOK_UP_S))

    def send(self, message: Message) -> Outcome:
        """Send in a thread that is left behind when it takes too long: Apprise has no deadline for the whole."""
        return self._in_time(*plain(message.alert, message.at))

    def send_report(self, report: Report) -> Outcome:
        """Send the report's title and lines as plain text."""
        title, lines = words.clean(report.title), [words.clean(line, 500) for line in report.lines]
        return self._in_time(words.unmentioned(title), words.unmentioned("\n".join(lines)))

    def _in_time(self, title: str, body: str) -> Outcome:
        answer: SimpleQueue[Outcome] = SimpleQueue()
        threading.Thread(
            target=lambda: answer.put(self._notify(title, body)), name="notify-apprise", daemon=True
        ).start()
        try:
            return answer.get(timeout=self._deadline_s)
        except Empty:
            return Outcome("retry", f"Apprise took longer than {self._deadline_s:g} s")

    def _notify(self, title: str, body: str) -> Outcome:
        try:
            self._check_addresses(self._deadline_s)
            sent = self._service.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT)
        except RefusedTargetError as error:
            return Outcome("retry", error.reason)
        except Exception as error:  # noqa: BLE001 - a hundred plug-ins: any error of one fails this attempt only
            return Outcome("retry", f"Apprise raised {type(error).__name__}")
        return Outcome("delivered", "sent") if sent else Outcome("retry", "Apprise could not send it")

    def _check_addresses(self, timeout_s: float) -> None:
        """Raise RefusedTargetError if a name resolves to an internal address now."""
        for target in self._targets:
            with suppress(UnreachableError):
                self._guard.addresses(target, timeout_s)


def _made(services: Any, spec: ChannelSpec) -> Any:
    """Let Apprise parse the URL, and check the result: it splits lists and skips text before a scheme."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it loads all its plug-ins, some import old modules
        known = services.add(spec.url)
    made = list(services)
    if any(_BY_THE_GUARD & service.schemas() for service in made):
        raise RefusedTargetError("json, xml and form of Apprise go past the guard; use an https URL (kind webhook)")
    if not known or not made:
        raise SettingsError(f"channel {spec.name}", "Apprise does not know such a URL", "see Apprise's list of URLs")
    if len(made) > 1:
        raise SettingsError(f"channel {spec.name}", f"its URL names {len(made)} services", "write a channel for each")
    for value in vars(made[0]).values():
        # slack, discord, telegram, workflows: ?template=http://... is fetched at every message
        attached = cast("Iterable[Any]", value) if isinstance(value, apprise.AppriseAttachment) else ()
        if any("file" not in one.schemas() for one in attached):
            raise RefusedTargetError("a template that is fetched from a URL")
    options = parse_qs(urlsplit(spec.url).query)
    if any("://" in value for name, values in options.items() if name.lower() != "relay" for value in values):
        raise RefusedTargetError("a URL among its options, which Apprise would fetch past the guard")
    if hasattr(made[0], "discovery"):  # Matrix: the server's .well-known file could name another host to connect to
        made[0].discovery = False
    return made[0]


def _places(service: Any) -> Iterator[tuple[str, int]]:
    """Yield (host, port) of what the URL itself could choose; not where a token, an id or a topic has that place."""
    usual = 443 if service.secure else 80
    port = service.port or usual
    if isinstance(relays := getattr(service, "relays", None), list):  # Nostr
        for relay in map(urlsplit, relays):
            yield relay.hostname or "", relay.port or (443 if relay.scheme == "wss" else 80)
    elif organization := getattr(service, "organization", None) if hasattr(service, "hostname") else None:  # Zulip
        yield f"{organization}.{service.hostname}", 443
    elif host := getattr(service, "smtp_host", None) or getattr(service, "xmpp_host", None):
        yield host, port
    elif service.host and _host_is_free(service):
        yield service.host, port


def _host_is_free(service: Any) -> bool:
    if getattr(service, "mode", None) == "cloud":  # ntfy, Fluxer, LaMetric: the makers' own address
        return False
    if service.template_tokens.get("host", {}).get("map_to", "host") != "host":  # WeChat: the agent's number
        return False
    return any("{host}" in template for template in service.templates)
