"""What a channel is: it delivers an alert or the report of a job, and returns the outcome of the attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from pipelines.notify.channels.post import Poster
from pipelines.notify.outcome import Outcome
from pipelines.notify.spec import ChannelSpec
from schemas.alerts import Alert


@dataclass(frozen=True, slots=True)
class Message:
    """One state of one alert, on its way."""

    alert: Alert
    body: bytes = field(repr=False)
    """The JSON of ``alert``: as on llm.alerts, without what `content.outgoing` removes."""
    at: int
    """Time of this attempt, µs UTC."""

    @property
    def id(self) -> str:
        """The same for every attempt and after every crash: receivers drop what they have seen."""
        return f"{self.alert.id}-{self.alert.seq}"


@dataclass(frozen=True, slots=True)
class Report:
    """What a batch job reports: words for people, JSON for programs. It carries no text of a prompt or an answer."""

    id: str
    """The same for every attempt of one report: receivers drop what they have seen."""
    title: str
    lines: tuple[str, ...]
    """Whole sentences; names in them are not escaped yet."""
    body: bytes = field(repr=False)
    """One JSON object with the fields ``type`` and ``id``."""
    at: int
    """Time of this attempt, µs UTC."""
    image: bytes = field(default=b"", repr=False)
    """PNG, for receivers that take a file; empty: none."""


class Channel(Protocol):
    """Delivers to one receiver. A new one is a file here and a line in ``CHANNELS``.

    ``send`` blocks for at most the poster's deadline and does not raise: what goes wrong is an `Outcome` whose
    detail holds no URL and no secret. It may be called from several threads, ``parallel`` at once.
    """

    kind: ClassVar[str]
    parallel: ClassVar[int]
    coalesces: ClassVar[bool]
    """People read it: an update that waits behind a newer one need not be sent."""

    def __init__(self, spec: ChannelSpec, poster: Poster) -> None:
        """Check ``spec`` as far as that goes without a request.

        Raises:
            RefusedTargetError: the guard refuses the address.
            SettingsError: nothing can be sent to such a URL.
        """

    def send(self, message: Message) -> Outcome:
        """Make one attempt."""
        ...

    def send_report(self, report: Report) -> Outcome:
        """Make one attempt to send the report of a job."""
        ...
