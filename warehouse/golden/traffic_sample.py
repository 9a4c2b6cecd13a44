"""Inputs of a random sample of calls: the traffic that a golden set should cover."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import duckdb

from schemas.variants import NOT_USER_FACING
from warehouse.golden.failed_calls import Window

_CHARS = 4_000
"""Of each text; the embedding reads fewer."""
_START = datetime(1970, 1, 1, tzinfo=UTC)
_USED = f"""
FROM raw_calls
WHERE day BETWEEN $first AND $last
    AND ts >= make_timestamptz($since::BIGINT) AND ts < make_timestamptz($until::BIGINT)
    AND NOT coalesce(_dup, false) AND content_mode IS DISTINCT FROM 'hashed' AND op IS DISTINCT FROM 'embeddings'
    AND (len($envs::VARCHAR[]) = 0 OR list_contains($envs::VARCHAR[], lower(env)))
    AND NOT coalesce(list_contains($not_envs::VARCHAR[], lower(env)), false)
    AND NOT coalesce(regexp_matches(variant, '{NOT_USER_FACING}', 'i'), false)
"""
_COUNT = "SELECT count(*)" + _USED + "AND content_mode IS DISTINCT FROM 'none'"
# by the hash that draws healthy calls, so that what is embedded here is embedded there; late duplicates change nothing
_DRAWN = (
    """
SELECT left(coalesce(nullif(array_to_string(list_transform(
    list_filter(messages, lambda m: m.role IS DISTINCT FROM 'system' AND m.text <> ''), lambda m: m.text
), chr(10)), ''), input_text), $chars::BIGINT) AS asked
"""
    + _USED
    + """
    AND left(sha256($seed || '/healthy/' || id::VARCHAR), 8) < $below AND trim(input_text) <> ''
ORDER BY sha256($seed || '/healthy/' || id::VARCHAR) LIMIT $most
"""
)


def traffic(
    connection: duckdb.DuckDBPyConnection,
    window: Window,
    *,
    envs: Sequence[str],
    not_envs: Sequence[str],
    seed: int,
    most: int,
) -> list[str]:
    """Return the inputs of calls of ``window``, drawn by the hash of their ids, in a fixed order.

    Args:
        connection: in the caller's transaction, which it does not end.
        window: where to look.
        envs: only these environments; empty: all but ``not_envs``.
        not_envs: none of these.
        seed: of the draw.
        most: calls.
    """
    if not most:
        return []
    first, last = ((_START + timedelta(microseconds=at)).date() for at in (window.since, window.until))
    asked: dict[str, object] = {
        **{"first": first - timedelta(days=1), "last": last + timedelta(days=1)},
        **{"since": window.since, "until": window.until, "envs": list(envs), "not_envs": list(not_envs)},
    }
    calls = connection.execute(_COUNT, asked).fetchall()[0][0]
    share = min(1.0, 1.5 * most / calls) if calls else 0.0  # some lack a text; few enough to sort
    below = "g" if share == 1.0 else f"{int(share * 0x100000000):08x}"
    more = {"seed": str(seed), "below": below, "most": most, "chars": _CHARS}
    return [text for (text,) in connection.execute(_DRAWN, {**asked, **more}).fetchall()]
