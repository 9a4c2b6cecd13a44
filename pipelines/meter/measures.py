"""The measures of one call: only this module translates the values of the providers to ours."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.rollups import BUCKET_GAMMA, CALL_GAMMA, COUNTS, INPUT_LARGEST, INPUT_SIZES, TOKENS

# compared in lower case
TRUNCATED = ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded", "incomplete")
"""OpenAI length; Anthropic, Cohere, Gemini and Bedrock max_tokens; OpenAI's Responses incomplete / max_output_tokens;
Mistral model_length; Anthropic model_context_window_exceeded."""
REFUSED = (
    "content_filter",
    "content_filtered",
    "refusal",
    "safety",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
    "image_safety",
    "error_toxic",
    "guardrail_intervened",
)
"""OpenAI and Azure content_filter; Anthropic refusal; Gemini SAFETY, RECITATION, BLOCKLIST, PROHIBITED_CONTENT, SPII;
Cohere ERROR_TOXIC; Bedrock content_filtered, guardrail_intervened."""

Ints = np.ndarray
"""(n,) int64 unless documented otherwise."""
Named = tuple[Ints, list[tuple[str, str]], Ints]
"""Something that calls have: (m,) row and (m,) code, and the (name, action) of every code, sorted."""


def counts(calls: pa.Table) -> dict[str, Ints]:
    """Return name in COUNTS -> (n,) bool: does this call count."""
    status, reason = calls["status"], pc.utf8_lower(calls["finish_reason"])
    cache, docs = calls["answer_cache"], calls["retrieval_docs_count"]
    found: dict[str, Ints] = {
        "calls": np.ones(calls.num_rows, dtype=bool),
        "errors": _true(pc.equal(status, "error")),
        "blocked": _true(pc.equal(status, "blocked")) | _rows_with(calls["guardrails"], "block"),
        "refused": _true(calls["refused"]) | _among(reason, REFUSED),
        "truncated": _among(reason, TRUNCATED),
        "fallbacks": _true(pc.is_valid(calls["fallback_from"])),
        "retrievals": _true(calls["retrieval"]),
        "empty_retrievals": _true(calls["retrieval"]) & _true(pc.equal(docs, 0)),
        "unpriced": _true(pc.is_null(calls["cost_nanousd"])) | _true(pc.equal(calls["cost_status"], "partly_priced")),
        "cache_exact": _true(pc.equal(cache, "exact")),
        "cache_semantic": _true(pc.equal(cache, "semantic")),
        "usage_missing": _true(pc.is_null(calls["input_tokens"])),
        "costs_compared": _true(calls["cost_compared"]),
        "cost_differs": _true(calls["cost_differs"]),
    }
    return {name: found[name] for name in COUNTS}


def sums(calls: pa.Table) -> dict[str, Ints]:
    """Return the sum's name -> (n,) int64, NULL as 0: it is counted as missing or unpriced."""
    found = {name: integers(calls[name]) for name in (*TOKENS, "cost_nanousd", "cache_saved_nanousd")}
    return found | {"retried_calls": (integers(calls["attempt"]) > 1).astype(np.int64)}


def input_sizes(calls: pa.Table) -> tuple[Ints, list[str]]:
    """Return (n,) class of the input tokens of each call, -1 where they are not reported, and the names."""
    tokens = integers(calls["input_tokens"], -1)
    codes = np.searchsorted([most for most, _ in INPUT_SIZES], tokens, side="left")
    return np.where(tokens < 0, -1, codes), [*(name for _, name in INPUT_SIZES), INPUT_LARGEST]


def integers(column: pa.ChunkedArray, null: int = 0) -> Ints:
    """(n,) int64 of ``column``."""
    return np.asarray(pc.fill_null(pc.cast(column, pa.int64()), null).to_numpy(), dtype=np.int64)


def buckets(column: pa.ChunkedArray) -> Ints:
    """Milliseconds -> their logarithmic bucket (BUCKET_GAMMA), -1 where not reported."""
    ms = np.asarray(pc.fill_null(column, -1.0).to_numpy(), dtype=np.float64)
    index = np.ceil(np.log(np.maximum(ms, 1.0)) / np.log(BUCKET_GAMMA)).astype(np.int64)
    return np.where(ms < 0, -1, index)


def call_buckets(values: Ints) -> Ints:
    """Tokens or nano-USD of a call -> their logarithmic bucket (CALL_GAMMA), -1 where there are none."""
    index = np.ceil(np.log(np.maximum(values, 1)) / np.log(CALL_GAMMA)).astype(np.int64)
    return np.where(values <= 0, -1, index)


def bucket_bounds(bucket: int) -> tuple[float, float]:
    """Milliseconds (over, up to) that ``bucket`` holds."""
    return (0.0, 1.0) if bucket == 0 else (BUCKET_GAMMA ** (bucket - 1), BUCKET_GAMMA**bucket)


def triggers(calls: pa.Table) -> Named:
    """Guardrails that did anything but pass, at most once per call.

    Returns:
        (rows, names, codes): row and code of every trigger, and the (name, action) of every code, sorted.
    """
    rows, guard, action = _flat(calls["guardrails"])
    fired = _true(pc.and_kleene(pc.is_valid(action), pc.not_equal(action, "pass")))
    pairs = list(
        zip(
            pc.fill_null(guard.filter(pa.array(fired)), "").to_pylist(),
            action.filter(pa.array(fired)).to_pylist(),
            strict=True,
        )
    )
    return coded(rows[fired], pairs)


def error_types(calls: pa.Table) -> Named:
    """Rows with an error type, and (type, status) coded as in `triggers`."""
    typed = _true(pc.is_valid(calls["error_type"]))
    mask = pa.array(typed)
    pairs = list(
        zip(
            calls["error_type"].filter(mask).cast(pa.string()).to_pylist(),
            calls["status"].filter(mask).cast(pa.string()).to_pylist(),
            strict=True,
        )
    )
    return coded(np.flatnonzero(typed), pairs)


def call_hashes(ids: pa.ChunkedArray) -> np.ndarray:
    """Canonical UUID texts -> (n,) uint64, evenly spread: the clock in a UUIDv7 does not show through."""
    if len(ids) == 0:
        return np.zeros(0, dtype=np.uint64)
    array = pc.cast(ids, pa.string()).combine_chunks()
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    offsets = np.frombuffer(array.buffers()[1], dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    text = np.frombuffer(array.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]].reshape(len(array), 36)
    nibbles = _NIBBLE[text[:, _HEX]]
    octets = (nibbles[:, 0::2] << 4 | nibbles[:, 1::2]).astype(np.uint8)
    high, low = (np.ascontiguousarray(octets[:, s]).view(">u8")[:, 0].astype(np.uint64) for s in (_HIGH, _LOW))
    return _mixed(_mixed(high) ^ low)


_HEX = np.array([i for i in range(36) if i not in (8, 13, 18, 23)])
_HIGH, _LOW = slice(0, 8), slice(8, 16)
_NIBBLE = np.zeros(256, dtype=np.uint8)
for _digit in "0123456789abcdef":
    _NIBBLE[[ord(_digit), ord(_digit.upper())]] = int(_digit, 16)


def _mixed(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), dtype=np.uint64)


def _true(column: pa.ChunkedArray | pa.Array) -> Ints:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)


def _among(column: pa.ChunkedArray, values: tuple[str, ...]) -> Ints:
    return _true(pc.is_in(column, value_set=pa.array(values)))


def _flat(column: pa.ChunkedArray) -> tuple[Ints, pa.Array, pa.Array]:
    rows = pc.list_parent_indices(column.combine_chunks()).to_numpy(zero_copy_only=False).astype(np.int64)
    items = pc.list_flatten(column.combine_chunks())
    return rows, pc.struct_field(items, "name"), pc.struct_field(items, "action")


def _rows_with(column: pa.ChunkedArray, wanted: str) -> Ints:
    rows, _, action = _flat(column)
    found = np.zeros(len(column), dtype=bool)
    found[rows[_true(pc.equal(action, wanted))]] = True
    return found


def none_named() -> Named:
    """Return what no call has."""
    return np.zeros(0, np.int64), [], np.zeros(0, np.int64)


def coded(rows: Ints, pairs: list[tuple[str, str]]) -> Named:
    """Code the (name, action) ``pairs`` of (m,) rows; what a row has twice counts once."""
    names = sorted(set(pairs))
    index = {pair: i for i, pair in enumerate(names)}
    once = np.array(sorted({(int(r), index[p]) for r, p in zip(rows, pairs, strict=True)}), dtype=np.int64)
    once = once.reshape(-1, 2)
    return once[:, 0], names, once[:, 1]
