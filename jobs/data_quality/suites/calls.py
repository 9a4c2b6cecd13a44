"""What is expected of LLM calls."""

from __future__ import annotations

from jobs.data_quality.suite import Suite
from jobs.data_quality.suites.events import Share, between, measures, not_above, not_null, one_of, standard

_TEXTS = "content_mode IN ('full', 'redacted') AND coalesce(status, 'ok') = 'ok' AND coalesce(op, 'chat') = 'chat'"
_USED = "input_tokens IS NOT NULL OR output_tokens IS NOT NULL"
SHARES = (
    Share("unpriced_share", "At most 10 % of the calls have no cost.", "cost_usd IS NULL", 0.10),
    Share(
        "unknown_model_share",
        "At most 5 % of the calls that report usage are of a model that the price book does not know.",
        "cost_status = 'unpriced'",
        0.05,
        _USED,
    ),
    Share(
        "content_missing_share",
        "At most 5 % of the chats whose content mode keeps texts come without question or answer.",
        "coalesce(len(messages), 0) = 0 OR (output_text IS NULL AND coalesce(len(tools), 0) = 0)",
        0.05,
        _TEXTS,
    ),
    Share(
        "clock_skew_share",
        "At most 1 % of the calls come from a clock that is off by days.",
        "coalesce(list_contains(_flags, 'clock_skew'), false)",
        0.01,
    ),
)
CALLS = Suite(
    "calls",
    "raw_calls",
    rows=(
        *map(not_null, ("id", "ts", "app", "model", "cost_status", "_partition", "_offset", "_kafka_time")),
        one_of("status", "ok", "error", "blocked", "cancelled"),
        between("latency_ms", 0, 86_400_000),
        between("ttft_ms", 0, 86_400_000),
        not_above("ttft_ms", "latency_ms"),
        between("input_tokens", 0, 100_000_000),
        between("output_tokens", 0, 100_000_000),
        not_above("cache_read_tokens", "input_tokens"),
        not_above("reasoning_tokens", "output_tokens"),
        between("cost_usd", 0, 1000),
        between("retries", 0, 100),
    ),
    measures=measures("raw_calls", SHARES),
    measured=(*standard("raw_calls"), *(share.check("raw_calls") for share in SHARES)),
)
