"""The rows of one person or tenant leave the lake, and the files that held them are written again without them."""

from warehouse.forget.count import count
from warehouse.forget.erase import Forgotten, forget
from warehouse.forget.scan import Scanned, scan
from warehouse.forget.who import Who

NOT_REACHED = (
    "Kafka, until the retention of its topics (what lands from there later needs another run)",
    "messages that channels have delivered, such as Slack's",
    "backups, and files that people exported",
    "texts of others that mention the id",
    "files of the home: reports, answers that a judge gave, states of detect and drift, logs (--scan names those with "
    "the id)",
)
"""Where rows of theirs may be besides."""
__all__ = ["NOT_REACHED", "Forgotten", "Scanned", "Who", "count", "forget", "scan"]
