"""What can be billed: the usage units of genai-prices, and which of them are parts of which.

A unit is a set of dimensions; it is a part of every unit with fewer of the same ones: audio read from the cache is a
part of input audio, of cached input, and of input. The table is written here so that decoding needs no library; a test
compares it with ``genai_prices.data_units`` of the installed version.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

MTOK = 1_000_000
_MODALITIES = ("", "text", "audio", "image", "video")
_INPUT = {
    "input{}": {},
    "cache{}_read": {"token_type": "cache_read"},
    "cache{}_write": {"token_type": "cache_write"},
    "cache{}_write_5m": {"token_type": "cache_write", "cache_ttl": "5m"},
    "cache{}_write_1h": {"token_type": "cache_write", "cache_ttl": "1h"},
    "input{}_tool": {"token_type": "tool"},
}
_OUTPUT = {
    "output{}": {},
    "output{}_reasoning": {"token_type": "reasoning"},
    "output{}_citation": {"token_type": "citation"},
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One way to bill."""

    name: str
    """Usage key of genai-prices, and the name on the wire."""
    price_key: str
    per: int
    """Units that one price pays: a million tokens, a thousand searches, 3,600 seconds."""
    dimensions: frozenset[tuple[str, str]]

    @property
    def direction(self) -> str | None:
        """``input`` or ``output`` of tokens; None of everything else: no token column includes it."""
        held = dict(self.dimensions)
        return held.get("direction") if held["family"] == "tokens" else None

    @property
    def is_tool_call(self) -> bool:
        """Whether it is a call of a hosted tool, which a model makes while it answers."""
        return ("family", "tool_calls") in self.dimensions

    def is_part_of(self, other: Unit) -> bool:
        """Return whether everything that this unit counts is counted by ``other`` too."""
        return other.dimensions < self.dimensions


def _unit(name: str, price_key: str, per: int, **dimensions: str) -> Unit:
    return Unit(name, price_key, per, frozenset(dimensions.items()))


def _tokens() -> list[Unit]:
    found = []
    for direction, shapes in (("input", _INPUT), ("output", _OUTPUT)):
        for shape, dimensions in shapes.items():
            for modality in _MODALITIES:
                name = shape.format(f"_{modality}" if modality else "")
                held = {"family": "tokens", "direction": direction, **dimensions}
                if modality:
                    held["modality"] = modality
                found.append(_unit(f"{name}_tokens", f"{name}_mtok", MTOK, **held))
    return found


_OTHERS = (
    _unit("input_characters", "input_mchars", MTOK, family="characters", direction="input"),
    _unit(
        "input_text_messages",
        "input_text_messages_kcount",
        1000,
        family="messages",
        direction="input",
        modality="text",
    ),
    _unit("audio_seconds", "audio_hours", 3600, family="durations", modality="audio"),
    _unit("input_audio_seconds", "input_audio_hours", 3600, family="durations", direction="input", modality="audio"),
    _unit("output_audio_seconds", "output_audio_hours", 3600, family="durations", direction="output", modality="audio"),
    _unit("input_pixels", "input_gpixels", 10**9, family="pixels", direction="input"),
    _unit("input_document_pages", "input_document_kpages", 1000, family="document_pages", direction="input"),
    _unit(
        "input_annotated_document_pages",
        "input_annotated_document_kpages",
        1000,
        family="document_pages",
        direction="input",
        page_type="annotated",
    ),
    _unit("rerank_searches", "rerank_searches_kcount", 1000, family="rerank"),
    _unit("web_searches", "web_searches_kcount", 1000, family="tool_calls", tool_type="web_search"),
    _unit("social_searches", "social_searches_kcount", 1000, family="tool_calls", tool_type="social_search"),
    _unit("storage_searches", "storage_searches_kcount", 1000, family="tool_calls", tool_type="storage_search"),
    _unit("code_executions", "code_executions_kcount", 1000, family="tool_calls", tool_type="code_execution"),
    _unit("requests", "requests_kcount", 1000, family="requests"),
)

VOCABULARY = {unit.name: unit for unit in (*_tokens(), *_OTHERS)}
BY_PRICE_KEY = {unit.price_key: unit for unit in VOCABULARY.values()}

REQUESTS = "requests"
COMPONENT = {
    "input_tokens": "input",
    "output_tokens": "output",
    "cache_read_tokens": "cache_read",
    "cache_write_tokens": "cache_write",
    "cache_write_1h_tokens": "cache_write_1h",
    "output_reasoning_tokens": "reasoning",
    "input_audio_tokens": "audio_in",
    "output_audio_tokens": "audio_out",
}
"""Unit -> the field of ``event.Tokens`` (and the component of a price) that holds the same amount.

Where that field is reported, it counts and the entry of ``units`` does not; where it is not, the entry becomes it.
"""
UNIT_OF = {component: name for name, component in COMPONENT.items()} | {"request": REQUESTS}


@cache
def ancestors(name: str) -> tuple[str, ...]:
    """Return the units that ``name`` is a part of, the most specific first."""
    unit = VOCABULARY.get(name)
    if unit is None:
        return ()
    found = [other for other in VOCABULARY.values() if unit.is_part_of(other)]
    return tuple(other.name for other in sorted(found, key=lambda u: (-len(u.dimensions), u.name)))
