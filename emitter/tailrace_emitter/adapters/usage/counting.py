"""How a usage object is read: counts that are plausible, parts that add up to the totals beside them."""

from typing import Any, Dict, Mapping, Optional, Union

Counts = Dict[str, Any]
"""Fields of ``event.Tokens`` -> tokens; a field that the provider did not report is left out, never 0. Beside them,
where the usage object has these: the keys of ``CALL_FIELDS``, which are fields of the call and not of its tokens."""
CALL_FIELDS = ("units", "service_tier", "cost_reported")
"""``fields.nest_call`` moves these from ``tokens`` to the call, so that an adapter can pass on what a reader returned.
"""


def mapping(value: Any) -> Mapping[str, Any]:
    """Return what an SDK returns as a mapping: a dict, a pydantic model, an object; empty for anything else."""
    if isinstance(value, Mapping):
        return value
    if value is None or isinstance(value, (str, bytes, int, float, list, tuple)):
        return {}
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        try:
            dumped = dump(warnings=False)
        except TypeError:
            dumped = dump()
        return dumped if isinstance(dumped, Mapping) else {}
    return getattr(value, "__dict__", {})


def count(value: Any) -> Optional[int]:
    """A plausible count, or None. Some gateways send floats; a boolean is no count."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value or value < 0:
        return None
    return int(value) if value < 2**53 else None


def amount(value: Any) -> Union[int, float, None]:
    """A plausible quantity; seconds and pages may have fractions."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        return None
    return value if 0 <= value < 2**53 else None


def first(holder: Mapping[str, Any], *names: str) -> Optional[int]:
    """The first of ``names`` that holds a count."""
    return next((c for c in (count(holder.get(n)) for n in names) if c is not None), None)


def reported(
    units: Optional[Mapping[str, Any]] = None,
    *,
    tier: Any = None,
    cost: Any = None,
    **counts: Optional[int],
) -> Counts:
    """Build the counts, without those that are not reported.

    Args:
        units: usage key of genai-prices -> quantity, of what is billed and no token count holds; 0 is left out.
        tier: the service tier that served the call.
        cost: USD that the provider or gateway reported.
        counts: fields of ``event.Tokens``.
    """
    found: Counts = {name: value for name, value in counts.items() if value is not None}
    used = [{"unit": name, "quantity": quantity} for name, quantity in (units or {}).items() if amount(quantity)]
    if used:
        found["units"] = used
    if isinstance(tier, str) and tier:
        found["service_tier"] = tier
    if (usd := amount(cost)) is not None:
        found["cost_reported"] = usd
    return found


def joined(counts: Counts, more: Counts) -> Counts:
    """Return ``counts`` and ``more`` as one; a unit that both have is that of ``more``."""
    own = more.get("units", [])
    names = {entry["unit"] for entry in own}
    units = [*(entry for entry in counts.get("units", ()) if entry["unit"] not in names), *own]
    found = {**counts, **more}
    return {**found, "units": units} if units else found


def total(*parts: Optional[int]) -> Optional[int]:
    """The sum of the parts that are known; None where none is."""
    known = [p for p in parts if p is not None]
    return sum(known) if known else None


def by_modality(details: Any, *modalities: str) -> Optional[int]:
    """Tokens of some modalities in Google's list ``[{"modality": "AUDIO", "tokenCount": 3}, ...]``."""
    if not isinstance(details, (list, tuple)):
        return None
    found = [mapping(d) for d in details]
    return total(
        *(
            first(d, "tokenCount", "token_count")
            for d in found
            if str(d.get("modality")).rpartition(".")[2] in modalities
        )
    )


def output_by_total(output: Optional[int], read: Optional[int], whole: Optional[int]) -> Optional[int]:
    """The output that makes the parts add up to ``whole``.

    xAI and Google count reasoning beside the completion, and Google's OpenAI-compatible endpoint does not report it at
    all; the total includes it, and all of it is billed as output. A total below the sum of its parts proves nothing.
    """
    if output is None or read is None or whole is None:
        return output
    return max(output, whole - read)
