"""Rows of one person, of a tenant or old ones of an app leave the lake; files that held them are written again."""

from warehouse.forget.count import Held, among, count, held
from warehouse.forget.erase import ErasureReport, forget
from warehouse.forget.old_calls import OTHERS, OldApp, drop_old_calls, invalid_app_retention, old_apps
from warehouse.forget.scan import Scanned, scan
from warehouse.forget.who import Who

NOT_REACHED = (
    "Kafka, until the retention of its topics (what lands from there later needs another run)",
    "messages that channels have delivered, such as Slack's",
    "backups, and files that people exported",
    "texts of others that mention the id",
    "states of detect and drift, in compacted topics of Kafka (docs/operate/forget-a-person.md ends them)",
    "other files of the home, such as free pages of the catalog (--scan names those with the id)",
)
"""Where rows of theirs may be besides."""
__all__ = [
    "NOT_REACHED",
    "OTHERS",
    "ErasureReport",
    "Held",
    "OldApp",
    "Scanned",
    "Who",
    "among",
    "count",
    "drop_old_calls",
    "forget",
    "held",
    "invalid_app_retention",
    "old_apps",
    "scan",
]
