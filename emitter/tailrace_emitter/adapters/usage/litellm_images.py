"""LiteLLM's usage of image generation: OpenAI's under the names of chat completions, with the number of images.

Source: ``ImageUsage`` and ``ImageResponse`` in ``litellm/types/utils.py``, and what its loggers hand on as
``usage_object``. Where the model bills by the image, tokens are 0 and 0, which reports nothing.
"""

from typing import Any, Mapping

from tailrace_emitter.adapters.usage import openai
from tailrace_emitter.adapters.usage.counting import Counts, first, mapping, reported


def matches(usage: Mapping[str, Any]) -> bool:
    """The count of images that only LiteLLM has."""
    return first(usage, "output_image_count") is not None


def read(usage: Mapping[str, Any]) -> Counts:
    """``image_generation`` and ``image_edit``."""
    counts = openai.read(usage)
    if not counts.get("input") and not counts.get("output"):
        return reported({"images": first(usage, "output_image_count")})
    wrote = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    if first(wrote, "image_tokens") is None:
        made = reported({"output_image_tokens": first(usage, "completion_tokens", "output_tokens")})
        counts["units"] = [*counts.get("units", ()), *made.get("units", ())]
    return counts
