"""Anything else that Apprise reaches: mail, Teams, Discord, Telegram, pagers (https://github.com/caronc/apprise).

Apprise opens its connections itself: it looks hosts up again, follows the proxies of the environment, and neither
its addresses nor its answers pass our guard. Redirects are off. So its schemes for URLs of one's own choice
(json://, xml://, form://) are refused: `webhook` does that behind the guard.
"""

from __future__ import annotations

import threading
import warnings
from queue import Empty, SimpleQueue
from typing import ClassVar

import apprise

from pipelines.notify import format as words
from pipelines.notify.channels.base import Message
from pipelines.notify.channels.post import Poster
from pipelines.notify.guard import RefusedTargetError
from pipelines.notify.outcome import Outcome
from pipelines.notify.spec import ChannelSpec
from schemas.errors import SettingsError

_BY_THE_GUARD = frozenset({"json", "jsons", "xml", "xmls", "form", "forms"})


class AppriseChannel:
    """Sends a title and plain text through one Apprise URL."""

    kind: ClassVar[str] = "apprise"
    parallel: ClassVar[int] = 1
    coalesces: ClassVar[bool] = True

    def __init__(self, spec: ChannelSpec, poster: Poster) -> None:
        if spec.url.split(":", 1)[0].lower() in _BY_THE_GUARD:
            raise RefusedTargetError("json, xml and form of Apprise go past the guard; use an https URL (kind webhook)")
        asset = apprise.AppriseAsset(app_id="Tailrace", app_desc="Tailrace alerts", app_url="", http_redirects=False)
        self._service = apprise.Apprise(asset=asset)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it loads all its plug-ins, some import old modules
            known = self._service.add(spec.url)
        if not known:
            raise SettingsError(
                f"channel {spec.name}", "Apprise does not know such a URL", "see Apprise's list of URLs"
            )
        self._deadline_s = poster.deadline_s

    def send(self, message: Message) -> Outcome:
        """Send in a thread that is left behind when it takes too long: Apprise has no deadline for the whole."""
        answer: SimpleQueue[Outcome] = SimpleQueue()
        threading.Thread(target=lambda: answer.put(self._notify(message)), name="notify-apprise", daemon=True).start()
        try:
            return answer.get(timeout=self._deadline_s)
        except Empty:
            return Outcome("retry", f"Apprise took longer than {self._deadline_s:g} s")

    def _notify(self, message: Message) -> Outcome:
        title, body = words.plain(message.alert)
        try:
            sent = self._service.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT)
        except Exception as error:  # noqa: BLE001 - a hundred plug-ins: whatever one raises costs this attempt only
            return Outcome("retry", f"Apprise raised {type(error).__name__}")
        return Outcome("delivered", "sent") if sent else Outcome("retry", "Apprise could not send it")
