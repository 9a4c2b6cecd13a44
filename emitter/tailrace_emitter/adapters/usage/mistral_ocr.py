"""Usage of Mistral's OCR: pages. Source: ``OCRResponse.usage_info`` in the API reference at docs.mistral.ai.

A page that is annotated as well is billed at the price of annotated pages: the request asked for annotations, and the
answer holds one. The adapter can read that; the usage object does not hold it.
"""

from typing import Any, Mapping

from tailrace_emitter.adapters.usage.counting import Counts, first, reported


def matches(usage: Mapping[str, Any]) -> bool:
    """Pages under Mistral's name."""
    return "pages_processed" in usage


def read(usage: Mapping[str, Any]) -> Counts:
    """``/v1/ocr``."""
    return reported({"input_document_pages": first(usage, "pages_processed")})
