"""Makes one Kafka message of one recorded call, feedback or eval.

Pure: no clock, no I/O; runs in the background thread.
"""

import contextlib
import copy
import functools
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Union
from typing import Counter as CounterOf

import msgspec

from tailrace_emitter import event as ev
from tailrace_emitter import limits
from tailrace_emitter.clean import clean, json_of, may_keep, text_of
from tailrace_emitter.field_names import ACCEPTED, MAX_REPORTED, UNKNOWN, cleaned, is_declared, unknown_fields
from tailrace_emitter.fields import NEST, start_time
from tailrace_emitter.people import People
from tailrace_emitter.redact import MODES, apply
from tailrace_emitter.span import EVENT_ID

Hook = Callable[[Dict[str, Any]], Optional[Dict[str, Any]]]
Sample = Union[float, Mapping[str, float]]
_TYPES = {"call": ev.Call, "feedback": ev.Feedback, "eval": ev.Eval}
_IDENTITY = ("v", "type", "id", "ts")
_encode = msgspec.json.Encoder().encode


class InvalidError(ValueError):
    """The event lacks a required field, such as the subject of a feedback."""


@dataclass(frozen=True)
class Policy:
    """The settings of an emitter for names, content and people."""

    app: str
    env: Optional[str] = None
    release: Optional[str] = None
    content: str = "redacted"
    content_sample: Sample = 1.0
    retrieval_text: bool = True
    redact: Optional[Hook] = None
    user_key: Union[str, bytes, None] = field(default=None, repr=False)
    """Key from the settings: of pseudonyms of every user, and of digests in mode ``hashed``."""
    home_key: Union[str, bytes, None] = field(default=None, repr=False)
    """Key of the home, used where the settings have none: of pseudonyms of ids that look personal."""
    user_mode: str = "auto"

    @functools.cached_property
    def people(self) -> Optional[People]:
        """How ids of people are replaced; None: they are not."""
        key = self.user_key or self.home_key
        if self.user_mode == "plain" or not key:
            return None
        return People(key, every=self.user_mode == "all" or bool(self.user_key))


@dataclass(frozen=True)
class Message:
    """A message for Kafka, and what had to be removed to make it."""

    key: str
    value: bytes
    counts: CounterOf[str]
    remarks: Mapping[str, str] = field(default_factory=dict)
    """Name of a field with a wrong name or value -> what is wrong with it, to be logged once per name."""


def _strip(event: Dict[str, Any]) -> None:
    apply(event, "none")


def _sampled(event_id: str, rate: Any) -> bool:
    """Whether this event keeps its content: decided by its random bits, so that every reader agrees."""
    return isinstance(rate, (int, float)) and int(event_id[-8:], 16) < rate * 2**32


def _asked_mode(nested: Dict[str, Any]) -> Any:
    """Remove the content mode that the app asks for with this event, and return it."""
    asked = nested.pop("content_mode", None)
    content = nested.get("content")
    return content.pop("mode", asked) if isinstance(content, dict) else asked


def _mode(policy: Policy, event: Mapping[str, Any], asked: Any) -> str:
    mode = asked if asked in MODES else policy.content
    rates = policy.content_sample
    rate: Any = rates
    if isinstance(rates, Mapping):
        rate = rates.get(str(event.get("env")), rates.get("*", 1.0))
    return mode if _sampled(event["id"], rate) else "none"


def _hooked(hook: Hook, kind: str, event: Dict[str, Any], counts: CounterOf[str]) -> Dict[str, Any]:
    """The event after the app's own hook; without its content where the hook fails or returns no valid event."""
    kept = {name: event[name] for name in _IDENTITY}
    try:
        given = copy.deepcopy(event)
        changed = hook(given)
        if not isinstance(changed, dict):
            raise TypeError(f"redact() returned {type(changed).__name__}, not the event")
        cleaned, rejected = clean(kind, changed)
        counts["fields_dropped"] += len(rejected)
        cleaned.update(kept)
        return cleaned
    except BaseException:  # noqa: BLE001 - the hook is the app's code; even SystemExit must not stop the sender
        counts["redaction_failed"] += 1
        event["content_failed"] = True
        return event


def _defaults(kind: str, nested: Dict[str, Any], policy: Policy) -> None:
    nested.setdefault("app", policy.app)
    if policy.env:
        nested.setdefault("env", policy.env)
    if policy.release and kind == "call":
        nested.setdefault("release", policy.release)
    people = policy.people
    if people is not None:
        if nested.get("user") is not None:
            nested["user"] = people.user(text_of(nested["user"]))
        for name in ("session_id", "tenant"):
            if isinstance(nested.get(name), str):
                nested[name] = people.other(nested[name])


def _require(kind: str, event: Dict[str, Any], policy: Policy) -> None:
    if kind == "call":
        event.setdefault("app", policy.app or "unknown")
        event.setdefault("model", "unknown")
    elif kind == "feedback":
        if not any(event.get(name) for name in ev.FEEDBACK_TARGETS):
            raise InvalidError(f"feedback names none of {', '.join(ev.FEEDBACK_TARGETS)}")
        event.setdefault("kind", "comment")
    else:
        if not any(event.get(name) for name in ev.EVAL_TARGETS):
            raise InvalidError(f"eval names none of {', '.join(ev.EVAL_TARGETS)}")
        if not any(event.get(name) is not None for name in ev.EVAL_RESULTS):
            raise InvalidError(f"eval has none of {', '.join(ev.EVAL_RESULTS)}")
        if not event.get("name"):
            raise InvalidError("eval has no name")


def _extra(event: Dict[str, Any], rejected: Mapping[str, Any], mode: str) -> Dict[str, Any]:
    """``extra`` with the values that have no field, as far as the content mode allows it."""
    extra: Dict[str, Any] = event.get("extra") or {}
    for path, value in rejected.items():
        if may_keep(path, value, texts_too=mode in ("full", "redacted")):
            with contextlib.suppress(Exception):  # an object that JSON cannot hold is left out
                extra.setdefault(path.lstrip("_")[: ev.NAME_CHARS] or "unnamed", json_of(value))
    return extra


def _remarks(kind: str, rejected: Mapping[str, Any], unknown: Mapping[str, str]) -> Dict[str, str]:
    """Return a message for each field that was given wrong; names are cleaned, of values only numbers are shown."""
    remarks = {}
    for name, path in unknown.items():
        twice = f"{cleaned(name)} is another name of {path}, and both are given: {cleaned(name)} is ignored"
        remarks[name] = twice if name in ACCEPTED[kind] else f"unknown field {cleaned(name)}: did you mean {path}?"
    for path, value in rejected.items():
        if is_declared(kind, path):
            shown = (
                str(value)[:40] if isinstance(value, (bool, int, float)) else f"a value of type {type(value).__name__}"
            )
            remarks[path] = f"{cleaned(path)}: {shown} does not fit this field and is left out"
    return remarks


def _apply_content_mode(event: Dict[str, Any], rejected: Mapping[str, Any], mode: str, policy: Policy) -> None:
    """Redact, cut and mark ``event`` in place."""
    content = event.get("content")
    if isinstance(content, dict):
        content.pop("mode", None)
        content["chars"] = limits.chars(event)
    if not policy.retrieval_text and isinstance(event.get("retrieval"), dict):
        for doc in event["retrieval"].get("docs", ()):
            doc.pop("text", None)
    extra = _extra(event, rejected, mode)
    if extra:
        event["extra"] = extra if policy.people is None else policy.people.extra(extra)
    cut = False
    if mode != "none":
        cut = limits.cut_texts(event, limits.CONTENT_BYTES + limits.SLACK_BYTES, mark=False)
    limits.cut_error(event, 4 * limits.ERROR_CHARS)
    apply(event, mode, key=policy.user_key)
    limits.cut_error(event)
    if mode not in ("none", "hashed"):
        cut = limits.cut_texts(event, limits.CONTENT_BYTES, mark=True) or cut
    if cut and isinstance(content, dict):
        content["truncated"] = True


def _apply_or_strip(
    event: Dict[str, Any], rejected: Mapping[str, Any], mode: str, policy: Policy, counts: CounterOf[str]
) -> None:
    """Apply the content mode in place; after any failure the content is removed, because unredacted text may not go."""
    try:
        _apply_content_mode(event, rejected, mode, policy)
    except Exception:  # noqa: BLE001 - after any failure, unredacted text must not leave
        counts["redaction_failed"] += 1
        event.pop("extra", None)
        _strip(event)


def _fitting_wire(kind: str, event: Dict[str, Any], counts: CounterOf[str]) -> bytes:
    """The event as JSON; without its content where it would be larger than a message may be."""
    value = _wire(kind, event, counts)
    if len(value) <= limits.MESSAGE_BYTES:
        return value
    counts["content_too_large"] += 1
    _strip(event)
    for name in ("tools", "retrieval", "guardrails"):
        event.pop(name, None)
    if isinstance(event.get("content"), dict):
        event["content"]["truncated"] = True
    return _wire(kind, event, counts)


def _wire(kind: str, event: Dict[str, Any], counts: CounterOf[str]) -> bytes:
    """The event as JSON, validated against its declaration; a field that is still invalid is removed, not the event."""
    for _ in range(8):
        try:
            return _encode(msgspec.convert(event, type=_TYPES[kind]))
        except msgspec.ValidationError as problem:
            path = str(problem).rpartition("$.")[2].rstrip("`")
            top = path.split(".")[0].split("[")[0]
            if top in _IDENTITY or event.pop(top, None) is None:
                raise InvalidError(str(problem)) from None
            counts["fields_dropped"] += 1
    raise InvalidError("too many fields do not fit")


def encode(
    kind: str, event_id: str, ts_ns: int, fields: Mapping[str, Any], policy: Policy, *, ended: bool = True
) -> Message:
    """Make the message of one recorded call, feedback or eval.

    Args:
        kind: call, feedback or eval.
        event_id: UUID text.
        ts_ns: wall clock at which it was recorded (``ended``) or began.
        fields: those that the app gave, flat or nested.
        policy: names, content mode, hook, user key.
        ended: ``ts_ns`` is the end of the call, so its latency is subtracted.

    Raises:
        InvalidError: no event that the server would accept can be made of it.
    """
    counts: CounterOf[str] = Counter()
    nested = NEST[kind](fields)
    event_id = nested.pop(EVENT_ID, event_id)
    asked = _asked_mode(nested)
    _defaults(kind, nested, policy)
    ts = nested.pop("ts", None)
    event, rejected = clean(kind, {**nested, "ts": start_time(ts_ns, nested, ended=ended) if ts is None else ts})
    event.setdefault("ts", start_time(ts_ns, nested, ended=ended))
    event.update(v=1, type=kind, id=event_id)
    counts["fields_dropped"] += len(rejected)
    unknown = unknown_fields(kind, (p for p in rejected if not is_declared(kind, p))) if rejected else {}
    remarks = _remarks(kind, rejected, unknown) if rejected else {}
    named = [*unknown, *(p for p in rejected if is_declared(kind, p))][:MAX_REPORTED]
    counts["unknown_fields"] += len(unknown)
    mode = _mode(policy, event, asked)
    if policy.redact is not None:
        event = _hooked(policy.redact, kind, event, counts)
        if event.pop("content_failed", False):
            mode, rejected = "none", {}
            event.pop("extra", None)
    _require(kind, event, policy)
    _apply_or_strip(event, rejected, mode, policy, counts)
    if named:
        event["extra"] = {UNKNOWN: named, **(event.get("extra") or {})}
    if "extra" in event:
        event["extra"], lost = limits.cut_extra(event["extra"])
        counts["fields_dropped"] += lost
    value = _fitting_wire(kind, event, counts)
    if isinstance(event.get("content"), dict) and event["content"].get("truncated"):
        counts["truncated"] += 1
    return Message(str(event.get("trace_id") or event.get("session_id") or event_id), value, +counts, remarks)
