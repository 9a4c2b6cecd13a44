"""What apps install: publishes one event per LLM call to Kafka. It never slows the app down and never breaks it.

``from tailrace_emitter import Emitter``, or the functions below on one default emitter made from the environment.
"""

import threading
from typing import Any, Callable, Dict, Optional

from tailrace_emitter.context import bind, context
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.span import Span, current

__all__ = [
    "Emitter",
    "Span",
    "bind",
    "call",
    "configure",
    "context",
    "current",
    "default",
    "eval",
    "feedback",
    "flush",
    "instrument",
    "observe",
    "pseudonym",
    "span",
    "stats",
    "uninstrument",
]
__version__ = "0.1.0"

_lock = threading.RLock()
_default: Optional[Emitter] = None


def default() -> Emitter:
    """The emitter of this process, made from the environment when first asked for."""
    global _default
    if _default is None:
        with _lock:
            if _default is None:
                _default = Emitter()
    return _default


def configure(**settings: Any) -> Emitter:
    """Make the default emitter with ``settings`` of ``Emitter``; a former one is flushed and closed."""
    global _default
    with _lock:
        old, _default = _default, Emitter(**settings)
    if old is not None:
        old.close()
    return _default


def call(model: Optional[str] = None, **fields: Any) -> str:
    """Record one finished call and return its id, to which feedback can refer.

    ``call("gpt-4o", input="Hi", output="Hello!", input_tokens=8, output_tokens=3, latency_ms=412)``

    No field is needed but the model. A wrong name or a value that does not fit never raises: it is logged once.

    Args:
        model: model asked for, as sent.
        **fields: any of the following; None means "not reported". They can also be nested as in the JSON
            (``tokens={"input": 8}``).

    Texts, under the content mode:
        input: a text, or a conversation ``[{"role": "user", "content": "Hi"}]``; also ``messages``.
        output: the answer.
        system: system instructions.
        content_mode: full, redacted, hashed or none, for this call.

    Usage and money:
        usage: the provider's own usage object, instead of the counts below.
        input_tokens: tokens; cached ones included.
        output_tokens: tokens; reasoning included.
        cache_read_tokens: tokens of the input that came from the provider's prompt cache.
        cache_write_tokens: tokens of the input that were written to it.
        cache_write_1h_tokens: tokens; the part of them that is cached for an hour.
        reasoning_tokens: tokens; the part of the output spent on reasoning.
        audio_in_tokens, audio_out_tokens: tokens; the audio part of input and output.
        images: images sent or made.
        units: what is billed beside tokens: list of ``{"unit", "quantity"}``, such as ``web_searches`` or ``pages``.
        usage_reported: False where the counts are estimated or absent.
        cost_reported: USD; what the provider or a gateway reported. The lake computes its own cost.
        service_tier: the provider's tier; it changes the price.
        answer_cache: none, exact or semantic: the app's own cache answered.
        answer_cache_saved_usd: USD that it saved.

    Time:
        latency_ms: milliseconds from the request to the last byte.
        ttft_ms: milliseconds from the request to the first chunk of a stream.
        ts: start of the request: datetime with zone, RFC 3339 text, or epoch milliseconds as an int; default: now,
            less ``latency_ms``.

    Who and where:
        app, env, release, feature, team, agent, host: names.
        user: the user's id; one that looks like a mail address, a phone number or a name is stored as a pseudonym.
        tenant, session_id, trace_id, span_id, parent_id: ids.
        experiment, variant, config_version, tools_hash, tags: names; up to 20 tags.

    The model and the answer:
        provider, response_model, response_id, fingerprint: as the provider reports them.
        op: chat (default), embeddings, ...
        status: ok (default), error, blocked or cancelled.
        error: an exception or a text; or error_type, error_code, error_message.
        finish_reason, refused, stream: why the answer ended, whether the model refused, whether it was streamed.
        retries, attempt, fallback_from: failed attempts inside this call, number of this try, model that failed before.
        temperature, top_p, max_tokens, reasoning_effort, seed: request parameters; ``max_tokens`` in tokens.
        prompt_name, prompt_version, prompt_hash, prompt_variables: the template.

    Around the call:
        tools: list of ``{"name", "id", "ok", "ms", "args"}``; ``ms`` in milliseconds.
        retrieval_query, retrieval_source, retrieval_index, retrieval_top_k: what was looked up, where.
        retrieval_ms: milliseconds that it took.
        retrieval_docs: list of ``{"id", "rank", "score", "chunk", "text", "cited", "relevant"}``.
        guardrails: list of ``{"name", "stage", "action", "score", "category", "ms"}``; action pass, flag, redact, block
            or error.
        extra: a dict of your own keys, at most 64 and 8 KiB.
    """
    return default().call(model, **fields)


def span(model: Optional[str] = None, **fields: Any) -> Span:
    """``Emitter.span`` of the default emitter."""
    return default().span(model, **fields)


def observe(function: Any = None, **fields: Any) -> Any:
    """``Emitter.observe`` of the default emitter, which is made when the function is first called."""
    from tailrace_emitter.span import observed

    def wrap(inner: Callable[..., Any]) -> Callable[..., Any]:
        fields.setdefault("feature", getattr(inner, "__name__", None))
        return observed(lambda: default().span(**fields), inner)

    return wrap if function is None else wrap(function)


def feedback(call_id: Optional[str] = None, **fields: Any) -> str:
    """Record the feedback of a person on a call.

    ``feedback(call_id, thumbs=True)``, ``feedback(response_id="chatcmpl-9x", rating=0.8)``

    Args:
        call_id: what ``call`` returned, or ``span.id``; or one of ``response_id`` (the provider's id of the answer),
            ``trace_id`` and ``session_id``.
        **fields: ``thumbs`` (True or False), ``rating`` (0 to 1), ``comment``, ``edited`` (the answer as the user
            corrected it), ``label``, ``kind`` (thumbs, rating, comment, edit, accept, copy), ``score``, ``user``.
    """
    return default().feedback(call_id, **fields)


def eval(name: Optional[str] = None, **fields: Any) -> str:
    """``Emitter.eval`` of the default emitter."""
    return default().eval(name, **fields)


def flush(timeout: float = 2.0) -> int:
    """``Emitter.flush`` of the default emitter."""
    return default().flush(timeout)


def stats() -> Dict[str, Any]:
    """``Emitter.stats`` of the default emitter."""
    return default().stats()


def instrument(emitter: Optional[Emitter] = None) -> None:
    """Record the calls of every installed client that has an adapter (OpenAI, LiteLLM); twice is once."""
    from tailrace_emitter.instrumentation import instrument as begin

    begin(emitter)


def uninstrument() -> None:
    """Undo what ``instrument`` did."""
    from tailrace_emitter.instrumentation import uninstrument as end

    end()


def pseudonym(user: str, key: Any) -> str:
    """The name under which ``user`` is stored when users are hashed with ``key``."""
    from tailrace_emitter.redact import pseudonym as of

    return of(user, key)
