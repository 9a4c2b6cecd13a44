"""The channels. To add one: a file, and a line in ``CHANNELS``."""

from __future__ import annotations

from pipelines.notify.channels.alertmanager import AlertmanagerChannel, AlertmanagerWebhookChannel
from pipelines.notify.channels.apprise import AppriseChannel
from pipelines.notify.channels.base import Channel, Message, Report
from pipelines.notify.channels.post import Poster
from pipelines.notify.channels.slack import SlackChannel
from pipelines.notify.channels.slack_app import SlackAppChannel
from pipelines.notify.channels.webhook import WebhookChannel
from pipelines.notify.guard import RefusedTargetError
from pipelines.notify.spec import ChannelSpec
from schemas.errors import SettingsError

CHANNELS: tuple[type[Channel], ...] = (
    WebhookChannel,
    SlackChannel,
    SlackAppChannel,
    AppriseChannel,
    AlertmanagerChannel,
    AlertmanagerWebhookChannel,
)

__all__ = ["CHANNELS", "Channel", "Message", "Report", "build"]


def build(spec: ChannelSpec, poster: Poster) -> Channel:
    """Make the channel that ``spec`` describes.

    Raises:
        SettingsError: unknown kind, or a URL nothing may be sent to. Never shows the URL.
    """
    kinds = {channel.kind: channel for channel in CHANNELS}
    if spec.kind not in kinds:
        raise SettingsError(f"channel {spec.name}", f"kind {spec.kind!r} is unknown", f"use {', '.join(kinds)}")
    try:
        return kinds[spec.kind](spec, poster)
    except RefusedTargetError as error:
        raise SettingsError(f"channel {spec.name}", str(error), "or use another URL") from None
