"""Emitter: the object that an app uses.

Records calls, feedback and evals; never slows the app down, never raises into it.
"""

import logging
import os
from typing import Any, Callable, Dict, Mapping, Optional, TypeVar, Union, overload

from tailrace_emitter import config, shutdown
from tailrace_emitter.context import around_here, merged, only
from tailrace_emitter.ids import new_id
from tailrace_emitter.sender import Lazy, OnDelivery, Sender
from tailrace_emitter.span import EVENT_ID, Span, observed

log = logging.getLogger("tailrace_emitter")
F = TypeVar("F", bound=Callable[..., Any])
MODES = ("full", "redacted", "hashed", "none")


class Emitter:
    """Publishes one event per LLM call.

    ``call(...)`` records a call that has ended; ``with span(...) as call`` times one; ``@observe(...)`` wraps a
    function. Fields are those of ``tailrace_emitter.event.Call``, nested, or flat by the lake's column names.

    Args:
        app: the emitting application; else ``TAILRACE_APP``, else the script's name.
        bootstrap_servers: Kafka; else ``TAILRACE_BOOTSTRAP_SERVERS``. Without any, events are counted and dropped.
        topic: else ``TAILRACE_TOPIC``, else ``llm.events`` under ``TAILRACE_TOPIC_PREFIX``.
        env: prod, staging, ...; else ``TAILRACE_ENV``.
        release: else ``TAILRACE_RELEASE``, else the commit of the working directory.
        content: ``full``, ``redacted`` (default), ``hashed`` or ``none``; else ``TAILRACE_CONTENT_MODE``.
        content_sample: share of events that keep content, one number or one per env (``{"prod": 0.1, "*": 1.0}``).
        retrieval_text: False leaves the text of retrieved chunks out.
        redact: the app's own hook, event (dict) in, event out, in the background thread. If it fails, the content is
            dropped and the event is sent.
        user_key: users become ``pseudonym(user, user_key)``; else ``TAILRACE_USER_KEY`` or ``TAILRACE_USER_KEY_FILE``.
            Without any, users that look like a mail address, a phone number or a name become pseudonyms under the key
            of ``TAILRACE_HOME``, here or when they land. ``TAILRACE_USER_MODE=plain`` leaves all users as they are.
        queue_max: events that may wait, before and after encoding.
        kafka: librdkafka settings, passed through (SASL, TLS, ...).
        on_delivery: called in the background thread with (event id, topic, partition, offset, error).
        sigterm: flush on a SIGTERM without another handler; else ``TAILRACE_SIGTERM=0`` switches it off. The end of a
            process waits at most 2 s for Kafka, or ``TAILRACE_EXIT_S``.
        disabled: record nothing; else ``TAILRACE_DISABLED``.
    """

    def __init__(
        self,
        app: Optional[str] = None,
        *,
        bootstrap_servers: Optional[str] = None,
        topic: Optional[str] = None,
        env: Optional[str] = None,
        release: Optional[str] = None,
        content: Optional[str] = None,
        content_sample: Union[float, Mapping[str, float]] = 1.0,
        retrieval_text: bool = True,
        redact: Optional[Callable[[Dict[str, Any]], Optional[Dict[str, Any]]]] = None,
        user_key: Union[str, bytes, None] = None,
        queue_max: int = 10_000,
        kafka: Optional[Mapping[str, Any]] = None,
        on_delivery: Optional[OnDelivery] = None,
        sigterm: bool = True,
        disabled: Optional[bool] = None,
    ) -> None:
        environ = os.environ
        self.app = app or config.app_of(environ)
        self.topic = topic or config.topic_of(environ)
        self.disabled = config.flag(environ, "TAILRACE_DISABLED") if disabled is None else disabled
        self._settings: Dict[str, Any] = dict(
            app=self.app,
            env=env or environ.get("TAILRACE_ENV"),
            content=_known_mode(content or environ.get("TAILRACE_CONTENT_MODE") or "redacted"),
            content_sample=content_sample,
            retrieval_text=retrieval_text,
            redact=redact,
        )
        self._release = release
        self._user_key = user_key
        self._policy: Any = None
        self._sender = Sender(
            encode=self._encode,
            prepare=self._prepare,
            topic=self.topic,
            bootstrap_servers=bootstrap_servers or environ.get("TAILRACE_BOOTSTRAP_SERVERS"),
            kafka=kafka or {},
            queue_max=queue_max,
            on_delivery=on_delivery,
        )
        if not self.disabled:
            shutdown.at_exit(self._sender, sigterm=sigterm and not _is_sigterm_off(environ))

    def _prepare(self) -> None:
        """Import and read what encoding needs: in the background thread, on the first event, not in the app."""
        from tailrace_emitter import encode

        if self._policy is None:
            try:
                key = self._user_key or config.user_key_of(os.environ)
            except OSError as problem:
                log.warning("tailrace_emitter: the user key cannot be read, users get a random one: %s", problem)
                key = os.urandom(32)  # a random key: pseudonyms that cannot be linked are better than plain ids
            release = self._release or config.release_of(os.environ)
            mode = config.user_mode_of(os.environ)
            home_key = config.home_key_of(os.environ) if mode != "plain" and not key else None
            self._policy = encode.Policy(
                **self._settings, user_key=key, home_key=home_key, user_mode=mode, release=release
            )

    def _encode(self, kind: str, event_id: str, ts_ns: int, fields: Dict[str, Any], ended: bool) -> Any:
        """Encode an event; runs in the background thread."""
        from tailrace_emitter.encode import encode

        return encode(kind, event_id, ts_ns, fields, self._policy, ended=ended)

    def _put(self, kind: str, fields: Dict[str, Any], lazy: Lazy = None) -> str:
        try:
            if self.disabled:
                return new_id()
            event_id = fields.get(EVENT_ID, "")
            return self._sender.put(kind, merged(fields) if kind == "call" else fields, lazy=lazy, event_id=event_id)
        except Exception:
            log.debug("tailrace_emitter_put_failed", exc_info=True)
            return new_id()

    def call(self, model: Optional[str] = None, **fields: Any) -> str:
        """Record one finished call and return its id, to which feedback can refer.

        ``emitter.call("gpt-4o", input="Hi", output="Hello!", input_tokens=8, output_tokens=3, latency_ms=412)``
        ``help(tailrace_emitter.call)`` lists the fields.
        """
        fields["model"] = model
        try:  # the code of _put without its function call: this is the time that an app spends
            if not self.disabled:
                around = around_here()
                return self._sender.put("call", {**around, **fields} if around else fields)
        except Exception:
            log.debug("tailrace_emitter_put_failed", exc_info=True)
        return new_id()

    def span(self, model: Optional[str] = None, **fields: Any) -> Span:
        """A call while it lasts: ``with emitter.span("gpt-4o") as call: ... call.output = text``."""
        fields["model"] = model
        return Span(self if self.disabled else self._sender, fields)

    def put(self, *args: Any, **kwargs: Any) -> str:
        """Discard the record of a span: the sender of a disabled emitter."""
        return ""

    @overload
    def observe(self, function: F) -> F: ...

    @overload
    def observe(self, function: None = None, **fields: Any) -> Callable[[F], F]: ...

    def observe(self, function: Any = None, **fields: Any) -> Any:
        """Decorator: one event per call of the function; ``tailrace_emitter.current()`` is its span inside.

        Its arguments become the input and a returned text the output, both under the content mode;
        ``observe(content_mode="none")`` records neither.
        """

        def wrap(inner: F) -> F:
            fields.setdefault("feature", getattr(inner, "__name__", None))
            return observed(lambda: self.span(**fields), inner)

        return wrap if function is None else wrap(function)

    def feedback(self, call_id: Optional[str] = None, **fields: Any) -> str:
        """Record the feedback of a person: ``feedback(call_id, thumbs=True)``, ``rating=0.8``, ``comment=...``."""
        fields["call_id"] = call_id
        return self._put("feedback", fields)

    def eval(self, name: Optional[str] = None, **fields: Any) -> str:
        """Record the result of a scorer: ``eval("groundedness", call_id=..., score=0.9)``."""
        fields["name"] = name
        return self._put("eval", fields)

    def record(
        self,
        fields: Dict[str, Any],
        lazy: Lazy = None,
        *,
        context: Optional[Mapping[str, Any]] = None,
        event_id: str = "",
    ) -> str:
        """For adapters: a call whose fields are computed by ``lazy(fields)`` in the background thread.

        Args:
            fields: what is known at once.
            lazy: returns all fields.
            context: what ``context.around_here()`` returned when the request was sent. None: the current context.
            event_id: a UUID for a call that may be seen twice: events of one id count once. Empty: a new one.
        """
        if event_id:
            fields[EVENT_ID] = event_id
        if context is None:
            return self._put("call", fields, lazy)
        with only(context):
            return self._put("call", fields, lazy)

    def flush(self, timeout: float = 2.0) -> int:
        """Wait until all is delivered or dropped, at most ``timeout`` seconds; return how many events still wait."""
        return self._sender.flush(timeout)

    def close(self, timeout: float = 2.0) -> int:
        """Flush and accept no more events; return how many were not sent."""
        return self._sender.close(timeout)

    def stats(self) -> Dict[str, Any]:
        """Counts of this process: emitted = delivered + waiting + sum of dropped by reason."""
        return self._sender.stats()


def _known_mode(mode: str) -> str:
    """Return the content mode; ``none`` for one that is unknown, so that no text is sent by mistake."""
    if mode in MODES:
        return mode
    log.warning("tailrace_emitter: content mode %r is unknown; no content is sent", mode)
    return "none"


def _is_sigterm_off(environ: Mapping[str, str]) -> bool:
    return environ.get("TAILRACE_SIGTERM", "").strip().lower() in ("0", "false", "no", "off")
