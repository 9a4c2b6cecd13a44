"""Usage of OpenAI's images, transcriptions and realtime sessions: tokens by modality, or seconds.

Source: the API reference of OpenAI. "The image object", ``usage``: "``output_tokens``: the number of output tokens in
the image"; ``output_tokens_details`` splits them where a model writes text as well. "The transcription object",
``usage``: of type ``tokens`` or ``duration`` (seconds, rounded). "response.done" of Realtime, ``usage``: details in
``input_token_details`` and ``output_token_details``, those of cached tokens in ``cached_tokens_details``.
"""

from typing import Any, Mapping

from tailrace_emitter.adapters.usage.counting import Counts, amount, first, mapping, reported


def _details(usage: Mapping[str, Any], direction: str) -> Mapping[str, Any]:
    return mapping(usage.get(f"{direction}_tokens_details") or usage.get(f"{direction}_token_details"))


def matches(usage: Mapping[str, Any]) -> bool:
    """Seconds, or input split by modality under the names of these endpoints."""
    if amount(usage.get("seconds")) is not None:
        return True
    return "input_tokens" in usage and first(_details(usage, "input"), "text_tokens", "image_tokens") is not None


def read(usage: Mapping[str, Any]) -> Counts:
    """Images, transcriptions, realtime."""
    asked, wrote = _details(usage, "input"), _details(usage, "output")
    cached = mapping(asked.get("cached_tokens_details"))
    output = first(usage, "output_tokens")
    is_image = "input_tokens_details" in usage and not wrote and first(asked, "cached_tokens") is None
    units = {
        "input_audio_seconds": usage.get("seconds"),
        "input_image_tokens": first(asked, "image_tokens"),
        "output_image_tokens": output if is_image else first(wrote, "image_tokens"),
        "cache_audio_read_tokens": first(cached, "audio_tokens"),
        "cache_image_read_tokens": first(cached, "image_tokens"),
    }
    return reported(
        units,
        input=first(usage, "input_tokens"),
        output=output,
        cache_read=first(asked, "cached_tokens"),
        reasoning=first(wrote, "reasoning_tokens"),
        audio_in=first(asked, "audio_tokens"),
        audio_out=first(wrote, "audio_tokens"),
    )
