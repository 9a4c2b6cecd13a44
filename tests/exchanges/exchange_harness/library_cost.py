"""What a call costs by genai-prices itself: its own matching, its own arithmetic, nothing of the product's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal

from genai_prices import Usage, calc_price

_KEYS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "audio_in_tokens": "input_audio_tokens",
    "audio_out_tokens": "output_audio_tokens",
    "web_searches": "web_searches",
    "storage_searches": "storage_searches",
}
"""Column of the lake -> the library's name."""


class RefusedError(ValueError):
    """The library refuses a usage whose parts exceed their total."""


def cost(
    tokens: Mapping[str, int | None], models: Iterable[str | None], provider: str | None, at: int, *, tier: str | None
) -> Decimal | None:
    """Return USD by the first of ``models`` that the library's list of ``provider`` has; None without a rate.

    Args:
        tokens: columns of the lake, and units of the library.
        models: the model that answered, then the one asked for.
        provider: the library's id; None: the library goes by the model's name.
        at: µs UTC.
        tier: service tier of the answer.

    Raises:
        RefusedError: the parts of the usage exceed their total.
    """
    usage = Usage(**{_KEYS[name]: count for name, count in tokens.items() if count and name in _KEYS})
    when = datetime.fromtimestamp(at / 1e6, UTC)
    for model in models:
        if not model:
            continue
        try:
            found = calc_price(
                usage,
                model,
                provider_id=provider,
                genai_request_timestamp=when,
                price_context={"service_tier": tier} if tier else None,
            )
        except LookupError:
            continue
        except ValueError as error:
            raise RefusedError(str(error)) from error
        rates = [rate for rate in vars(found.model_price).values() if rate is not None]
        return found.total_price if rates or model.endswith(":free") else None
    return None
