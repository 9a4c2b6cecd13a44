"""Why an event is refused: a closed list; the column ``dead.reason`` holds nothing else."""

from __future__ import annotations

from typing import NamedTuple

from pipelines.pricing.flags import COST_DIFFERS, USAGE_MISSING

NOT_JSON = "not_json"
NOT_OBJECT = "not_object"
TOO_LARGE = "too_large"
TOO_DEEP = "too_deep"
DUPLICATE_KEY = "duplicate_key"
BAD_UTF8 = "bad_utf8"
UNKNOWN_TYPE = "unknown_type"
UNSUPPORTED_VERSION = "unsupported_version"
RESERVED_KEY = "reserved_key"
REASONS = (
    NOT_JSON,
    NOT_OBJECT,
    TOO_LARGE,
    TOO_DEEP,
    DUPLICATE_KEY,
    BAD_UTF8,
    UNKNOWN_TYPE,
    UNSUPPORTED_VERSION,
    RESERVED_KEY,
)
FIELD_REASONS = ("missing", "type", "range", "not_finite")
"""These are followed by ``:`` and a declared field, such as ``type:tokens.input``; never a name the app made up."""

MAX_BYTES = 1 << 20
"""A message above this is refused by its size, unread."""
MAX_DEPTH = 32
"""Objects and lists inside one another; the deepest declared field is at 4, the rest is for ``extra``."""
MAX_EXTRA_KEYS = 64
MAX_EXTRA_BYTES = 8192

REPLACED_UTF8 = "replaced_utf8"
EXTRA_CUT = "extra_cut"
CLAMPED = "clamped"
CLOCK_SKEW = "clock_skew"
TOKEN_MISMATCH = "token_mismatch"
REDACTED = "redacted_at_ingest"
CREATE_TIME = "create_time"
"""``_kafka_time`` is CreateTime, which the producer set: the topic did not promise LogAppendTime."""
PSEUDONYMISED = "pseudonymised"
"""An id of a user, a session or a tenant identified a person and was replaced at ingest."""
FLAGS = (
    REPLACED_UTF8,
    EXTRA_CUT,
    CLAMPED,
    CLOCK_SKEW,
    TOKEN_MISMATCH,
    REDACTED,
    CREATE_TIME,
    PSEUDONYMISED,
    USAGE_MISSING,
    COST_DIFFERS,
)
UNKNOWN_FIELD = "unknown_field"
"""Followed by ``:`` and the unknown name, cleaned and at most 64 characters long; at most 4 of them an event."""


class Reject(NamedTuple):
    """The event is dead. ``detail`` has what was expected and what type was found, never a text of the app."""

    reason: str
    detail: str
