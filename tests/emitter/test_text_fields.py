"""Text is declared once, in the event: no field that holds text is forgotten by redaction, limits or ingest."""

from copy import deepcopy
from inspect import get_annotations
from typing import Annotated, Any, get_args, get_origin

import msgspec
import pytest
from msgspec import Meta

from pipelines.decode.redact import Redaction, redact
from tailrace_emitter import limits
from tailrace_emitter.event import EVENT_TYPES, Call
from tailrace_emitter.redact import MODES, apply
from tailrace_emitter.text_fields import text_fields, texts

KINDS = {struct.__struct_config__.tag: struct for struct in EVENT_TYPES}
ENVELOPE = {"v": 1, "id": "01a1fd70-2201-7679-92b8-f08650ac70d6", "ts": 1_763_640_366_000}


def hints(struct: Any) -> dict[str, Any]:
    return {name: hint for base in reversed(struct.__mro__) for name, hint in get_annotations(base).items()}


def unpad(hint: Any) -> tuple[Any, list[Meta]]:
    """The type of a declaration without None and UNSET, and what is said of it at any depth."""
    metas: list[Meta] = []
    while True:
        if get_origin(hint) is Annotated:
            metas += [m for m in hint.__metadata__ if isinstance(m, Meta)]
            hint = get_args(hint)[0]
        elif get_origin(hint) is not None and (
            kept := [a for a in get_args(hint) if a not in (type(None), msgspec.UnsetType)]
        ) != list(get_args(hint)):
            hint = kept[0]
        else:
            return hint, metas


def strings(struct: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], list[Meta]]]:
    """Every field of a string or of JSON, however deep, with its declarations."""
    found = []
    for name, hint in hints(struct).items():
        kind, metas = unpad(hint)
        here = (*path, name)
        if get_origin(kind) is list:
            kind, inner = unpad(get_args(kind)[0])
            metas = metas + inner
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found += strings(kind, here)
        elif kind is str or get_origin(kind) is dict:
            found.append((here, metas))
    return found


def sample(struct: Any, path: str = "") -> Any:
    """An event in the wire's shape with a string in every field that takes one; text holds an address."""
    out: dict[str, Any] = dict(ENVELOPE, type=struct.__struct_config__.tag) if struct in EVENT_TYPES else {}
    for name, hint in hints(struct).items():
        kind, metas = unpad(hint)
        many = get_origin(kind) is list
        if many:
            kind, inner = unpad(get_args(kind)[0])
            metas = metas + inner
        here = f"{path}.{name}"
        value: Any
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            value = sample(kind, here)
        elif get_origin(kind) is dict:
            value = {"a": [{f"bob@example.org{here}": f"bob@example.org canary{here}"}]}
        elif kind is str:
            value = f"bob@example.org canary{here}" if is_text(metas) else f"name{here}"[:60]
        elif name == "kind" and struct is KINDS["feedback"]:
            value = "comment"
        else:
            continue
        out[name] = [value, deepcopy(value)] if many else value
    return out


def is_text(metas: list[Meta]) -> bool:
    return any((m.extra or {}).get("text") for m in metas)


@pytest.mark.parametrize("kind", KINDS)
def test_a_string_without_a_limit_is_declared_as_text(kind):
    for path, metas in strings(KINDS[kind]):
        limited = any(m.max_length is not None for m in metas)
        assert limited or is_text(metas) or path == ("extra",), (
            f"{kind}.{'.'.join(path)} holds text of any length: declare it with text=True, or as a Name"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_the_text_fields_are_those_declared(kind):
    declared = {path for path, metas in strings(KINDS[kind]) if is_text(metas)}
    assert {field.path for field in text_fields(kind)} == declared
    assert declared


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", MODES)
def test_no_text_survives_a_mode_that_takes_it(kind, mode):
    event = sample(KINDS[kind])
    names = {value for value in every_string(event) if value.startswith("name")}
    if mode == "none":
        names = {name for name in names if "content.input" not in name}  # the turns go as a whole
    assert len([v for v in every_string(event) if "canary" in v]) > len(text_fields(kind))
    left = every_string(apply(event, mode))
    assert names <= set(left)  # what is no text is never touched
    canaries = [value for value in left if "canary" in value and ".extra" not in value]
    assert bool(canaries) == (mode in ("full", "redacted"))
    assert any("bob@" in value for value in left) == (mode == "full")


@pytest.mark.parametrize("kind", KINDS)
def test_ingest_redacts_every_text_of_an_unmarked_event(kind):
    event = sample(KINDS[kind])
    if kind == "call":
        event["content"].pop("mode", None)
    struct = msgspec.convert(event, KINDS[kind])
    assert redact(struct, Redaction()) is True
    left = every_string(msgspec.to_builtins(struct))
    assert not [value for value in left if "bob@" in value]
    assert len([value for value in left if "<EMAIL_" in value]) > len(text_fields(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_every_text_is_cut_to_the_limit(kind):
    event = sample(KINDS[kind])
    for holder, name, field in texts(event, kind):
        holder[name] = {"long": "y" * 5_000} if field.json else "x" * 5_000
    assert limits.cut_texts(event, 2_000, mark=False)
    limits.cut_error(event)
    sizes = [len(value) for value in every_string(event) if set(value) <= {"x", "y"} and value]
    assert sum(sizes) <= 2_000 + limits.ERROR_CHARS


@pytest.mark.parametrize("content", ["say canary bob@example.org", {"input": ["canary bob@example.org"]}])
@pytest.mark.parametrize("mode", ["redacted", "hashed", "none"])
def test_text_where_an_object_is_declared_is_text(content, mode):
    left = str(apply({"type": "call", "content": content}, mode))
    assert "bob@" not in left
    assert ("canary" in left) == (mode == "redacted")


def test_an_event_of_an_unknown_type_loses_the_texts_of_all_types():
    event = {"type": "cal", "content": {"output": "canary"}, "comment": "canary", "explanation": "canary"}
    assert "canary" not in str(apply(event, "none"))


def test_a_text_that_is_no_string_does_not_leave():
    event = {"type": "call", "content": {"output": [{"canary": 1}], "input": [{"text": {"canary": 2}}, None, 7]}}
    assert "canary" not in str(apply(event, "redacted"))


def test_what_is_absent_is_not_found():
    call = Call(**{**ENVELOPE, "ts": 1}, app="a", model="m")
    assert texts(call, "call") == []


def every_string(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in [k, *every_string(v)]]
    if isinstance(value, list):
        return [s for item in value for s in every_string(item)]
    return []
