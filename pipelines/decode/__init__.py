"""From messages to rows: ``decode`` for land, ``decode_metered`` for meter, one ``verdict`` under both. Pure.

A batch goes: ``check.admit`` each message (msgspec, strict; the doubtful ones through ``explain``) → ``redact`` what
no emitter marked → ``columns.parse`` all canonical lines at once → ``price`` → position, duplicates, flags.

meter never reads texts; for the calls it samples it calls ``Metered.texts(rows)``, which decodes and redacts only
these.
"""

from pipelines.decode.batch import METERED, Decoded, Metered, decode, decode_metered
from pipelines.decode.check import Accepted, verdict
from pipelines.decode.duplicate_window import SPAN, DuplicateWindow, DuplicateWindowLostError
from pipelines.decode.reasons import REASONS, Reject
from pipelines.decode.redact import Redaction

__all__ = [
    "METERED",
    "REASONS",
    "SPAN",
    "Accepted",
    "Decoded",
    "DuplicateWindow",
    "DuplicateWindowLostError",
    "Metered",
    "Redaction",
    "Reject",
    "decode",
    "decode_metered",
    "verdict",
]
