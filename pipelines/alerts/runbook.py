"""What to do, by rule. Overridable: ``steps(rule, overrides)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_SPEND = (
    "Open the calls below: is it one user or key in a loop, a prompt that grew, or honest growth?",
    "A loop or an injected prompt: rate limit or suspend the user, then look at how the loop began.",
    "A feature or release: compare tokens per call with the day before; roll back the prompt or release that began it.",
    "Honest growth: raise the budget and, if it stays, let the alert close as the new normal.",
)
STEPS: dict[str, Sequence[str]] = {
    "spike": _SPEND,
    "single_call_cost": (
        "Open the call: which prompt, how large a context, how many retries?",
        "Set max_tokens and a context limit for this feature, or a cheaper model for inputs of this size.",
    ),
    "surge_guardrail": (
        "Read three of the calls below: an attack, a new kind of honest input, or a guardrail that misfires?",
        "An attack: block the user or address, review what was let through in the minutes before it.",
        "A misfire: check what was released in the guardrail or the prompt, and roll it back.",
    ),
    "surge_errors": (
        "Check the provider's status page and the error types below; 429 means a limit, 5xx the provider.",
        "Switch the feature to its fallback model, or lower the retry rate.",
    ),
    "surge_blocked": ("See which guardrail blocks, and read three of the calls.",),
    "surge_refused": ("Did the model, the system prompt or the topic of the questions change?",),
    "surge_truncated": ("Raise max_tokens, or ask the model for shorter answers.",),
    "surge_fallbacks": ("The first choice of model fails: check its provider.",),
    "surge_usage_missing": ("The provider or SDK no longer reports usage: costs are unknown until it does.",),
    "surge_unpriced": ("A model without a price is in use: add it to the price book, then re-price.",),
    "surge_empty_retrievals": ("Check the index and the filters of the retrieval source.",),
}


def steps(rule: str, overrides: Mapping[str, Sequence[str]] | None = None) -> tuple[str, ...]:
    """Steps for ``rule``; the longest name that fits wins, ``overrides`` before ours."""
    for book in (overrides or {}, STEPS):
        for name in (rule, rule.split("_")[0]):
            if name in book:
                return tuple(book[name])
    return ()
