"""What to do, by rule. Overridable: ``steps(rule, overrides)``. Commands are in backticks and exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_SPEND = (
    "Open a call (`tailrace call CALL_ID`): is it one user or key in a loop, a prompt that grew, or honest growth?",
    "A loop or an injected prompt: rate limit or suspend the user, then look at how the loop began.",
    'A feature or release: compare prompt versions (`tailrace sql "FROM prompt_versions"`); roll back what began it.',
    "Honest growth: acknowledge it (`tailrace alerts ack ALERT_ID`); if it stays, it closes as the new normal.",
)
_ERRORS = (
    "Check the provider's status page and the error types (`tailrace call CALL_ID`); 429 means a limit, 5xx the "
    "provider.",
    "Switch the feature to its fallback model, or lower the retry rate.",
)
STEPS: dict[str, Sequence[str]] = {
    "spike": _SPEND,
    "single_call_cost": (
        "Open the call (`tailrace call CALL_ID`): which prompt, how large a context, how many retries?",
        "Set max_tokens and a context limit for this feature, or a cheaper model for inputs of this size.",
    ),
    "surge_guardrail": (
        "Read three of the calls (`tailrace call CALL_ID`): an attack, a new honest input, or a misfire?",
        "An attack: block the user or address, review what was let through in the minutes before it.",
        "A misfire: check what was released in the guardrail or the prompt, and roll it back.",
    ),
    "surge_signal": (
        "Read three of the calls (`tailrace call CALL_ID`): is what the signal names there, and since which release?",
        'See its share by model, feature and prompt: `tailrace sql "FROM text_signals WHERE day >= today() - 1"`',
        "It is there: roll back the prompt, model or index that began it; for an attack block the user or document.",
        "It is not there, or is meant: leave the signal out of TAILRACE_METER__SIGNALS, or silence it for this app.",
    ),
    "surge_errors": _ERRORS,
    "cold_start_cost": _SPEND,
    "cold_start_errors": _ERRORS,
    "surge_blocked": ("See which guardrail blocks, and read three of the calls (`tailrace call CALL_ID`).",),
    "surge_refused": (
        "Did the model, the system prompt or the topic of the questions change? Read three (`tailrace call CALL_ID`).",
    ),
    "surge_truncated": (
        "Raise max_tokens, or ask the model for shorter answers; one of them: `tailrace call CALL_ID`.",
    ),
    "surge_fallbacks": ("The first choice of model fails: check its provider; one call: `tailrace call CALL_ID`.",),
    "surge_usage_missing": (
        "The provider or SDK no longer reports usage (`tailrace call CALL_ID`): costs are unknown until it does.",
    ),
    "surge_unpriced": (
        "A model or a billed unit without a price is in use (`tailrace call CALL_ID`): add it to the price book "
        "(`tailrace prices publish`), then re-price (`tailrace prices reprice`).",
    ),
    "surge_cost_differs": (
        'See which model and provider, and by how much: `tailrace sql "FROM cost_checks WHERE differing_calls > 0"`.',
        "Open a call (`tailrace call CALL_ID`): a discount, a fee of the gateway, a price list that is out of date, or "
        "usage that is not in the event?",
        "A price that is wrong here: publish the right one (`tailrace prices publish`), then re-price "
        "(`tailrace prices reprice`). A discount or fee that is right: set TAILRACE_COST_PREFERENCE=reported.",
    ),
    "surge_empty_retrievals": (
        "Check the index and the filters of the retrieval source; one call: `tailrace call CALL_ID`.",
    ),
}


def steps(
    rule: str, overrides: Mapping[str, Sequence[str]] | None = None, *, own: Sequence[str] = ()
) -> tuple[str, ...]:
    """Steps for ``rule``, ``overrides`` before ours; the longest name that fits wins. ``own``: of a detector."""
    for book in (overrides or {}, {rule: own} if own else STEPS):
        for name in (rule, rule.split("_")[0]):
            if name in book:
                return tuple(book[name])
    return ()


def filled(steps: Sequence[str], *, alert_id: str, call_ids: Sequence[str]) -> tuple[str, ...]:
    """Return ``steps`` with the ids of this alert in their commands, so that they can be copied as they are."""
    short = alert_id[:8]
    call = f"tailrace call {call_ids[0]}" if call_ids else f"tailrace alerts show {short}"
    return tuple(step.replace("tailrace call CALL_ID", call).replace("ALERT_ID", short) for step in steps)
