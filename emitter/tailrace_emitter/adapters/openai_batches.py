"""Batches of the OpenAI API: one event for each line of an output file that the app reads, at the price of a batch.

Making a batch and asking for its state records nothing: they are no calls of a model. A file may be read twice, or in
another process: the event's id follows from the line's, so that a line counts once. It is on the owner of the batch,
where this process made that, else on the owner of who reads the file.
Source: "Batch API" at platform.openai.com: the request output object.
"""

import contextlib
import json
import re
import threading
import time
from collections import OrderedDict
from functools import partial
from typing import Any, Callable, Iterable, Iterator, List, Mapping, Optional

from tailrace_emitter.adapters import openai_fields as read
from tailrace_emitter.adapters.openai_routes import Route
from tailrace_emitter.adapters.providers import provider_of
from tailrace_emitter.adapters.sdk_values import Json, as_dict, part
from tailrace_emitter.context import around_here
from tailrace_emitter.emitter import Emitter
from tailrace_emitter.ids import id_of

_MAX_OWNERS = 4_096
"""Batches and their files whose owner is stored; the oldest is evicted first."""
_MAX_LINES = 65_536
"""Ids of recorded lines that are stored."""
AT_ONCE = 4_000
"""Lines that are recorded in the app's thread.

A background thread records those that follow, as the emitter gets room.
"""
_PATIENCE_S = 60.0
_CUSTOM_ID = re.compile(rb'"custom_id"\s*:\s*"((?:[^"\\]|\\.)*)"')
_MADE = re.compile(rb'"created(?:_at)?"\s*:\s*(\d{9,11})\b')
_owners: "OrderedDict[str, Mapping[str, Any]]" = OrderedDict()
"""Id of a batch, or of a file that it wrote -> what ``context(...)`` held where the batch was made."""
_recorded: "OrderedDict[str, None]" = OrderedDict()


class BatchWatch:
    """A request that makes a batch, asks for its state, or reads a file; has the methods of a recording."""

    hide_usage = False

    def __init__(self, emitter: Emitter, client: Any, route: Route) -> None:
        self._emitter, self._host, self._route = emitter, client.base_url.host, route
        self.retries = [0]
        self._is_output: Optional[bool] = None

    def failed(self, error: BaseException) -> None:
        """No call of a model failed."""

    def observe(self, result: Any, *, stream: bool) -> None:
        """Handle what the SDK returned."""
        if self._route.kind == "batch":
            _remember_batch(_json(result), made=not self._route.key)
        else:
            self._file(result)

    def _file(self, result: Any) -> None:
        response: Any = getattr(result, "http_response", None) or getattr(result, "response", None)
        context = _owners.get(self._route.key)
        if isinstance(result, str):
            self._lines(result.encode("utf-8", "replace").splitlines(), context)
        elif hasattr(response, "_content"):
            self._lines(response.content.splitlines(), context)
        elif response is not None:
            _tap(response, partial(self._lines, context=around_here() if context is None else context))

    def _lines(self, lines: Iterable[bytes], context: Optional[Mapping[str, Any]]) -> None:
        context = around_here() if context is None else context
        found = [line for line in lines if line.strip()]
        if self._is_output is None and found:
            self._is_output = _is_output(found[0])
        if not self._is_output:
            return
        record = partial(_record, self._emitter, self._host, self._route.key, context)
        for line in found[:AT_ONCE]:
            record(line)
        if found[AT_ONCE:]:
            rest = partial(_record_slowly, self._emitter, record, found[AT_ONCE:])
            threading.Thread(target=rest, name="tailrace-batch", daemon=True).start()


def _is_output(line: bytes) -> bool:
    """Whether a file that begins with ``line`` is what a batch wrote."""
    try:
        found = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict) and "custom_id" in found and ("response" in found or "error" in found)


def _json(result: Any) -> Any:
    response = getattr(result, "http_response", None)
    return response.json() if response is not None else result


def _remember_batch(batch: Any, *, made: bool) -> None:
    batch_id = part(batch, "id")
    if made and batch_id:
        _put(_owners, batch_id, around_here(), _MAX_OWNERS)
    owner = _owners.get(batch_id)
    for name in ("output_file_id", "error_file_id"):
        file_id = part(batch, name)
        if file_id and owner is not None:
            _put(_owners, file_id, owner, _MAX_OWNERS)


def _put(held: "OrderedDict[str, Any]", key: str, value: Any, most: int) -> None:
    held[key] = value
    while len(held) > most:
        held.popitem(last=False)


def _record(emitter: Emitter, host: str, file_id: str, context: Mapping[str, Any], line: bytes) -> None:
    custom_id = _CUSTOM_ID.search(line)
    if custom_id is None:
        return
    key = f"openai:{file_id}:{custom_id.group(1).decode('utf-8', 'replace')}"
    if key in _recorded:
        return
    _put(_recorded, key, None, _MAX_LINES)
    made = _MADE.search(line)
    made_ms = int(made.group(1)) * 1000 if made else 0
    emitter.record({"host": host}, partial(_fields, line), context=context, event_id=id_of(key, made_ms))


def _record_slowly(emitter: Emitter, record: Callable[[bytes], None], lines: List[bytes]) -> None:
    """Record the lines as the emitter gets room for them; what it has no room for within a minute is dropped there."""
    until = time.monotonic() + _PATIENCE_S
    for line in lines:
        while emitter.stats()["waiting"] >= AT_ONCE and time.monotonic() < until:
            time.sleep(0.01)
        if time.monotonic() < until:
            until = time.monotonic() + _PATIENCE_S
        with contextlib.suppress(Exception):
            record(line)


def _op(body: Json) -> str:
    kind = str(body.get("object"))
    if kind == "list":
        return "embeddings"
    if "results" in body:
        return "moderation"
    return "text_completion" if kind == "text_completion" else "image_generation" if "data" in body else "chat"


def _fields(line: bytes, given: Json) -> Json:
    """One line as the fields of a call."""
    found = as_dict(json.loads(line))
    response, failure = as_dict(found.get("response")), as_dict(found.get("error"))
    body = as_dict(response.get("body"))
    failure = failure or as_dict(body.get("error"))
    op = _op(body)
    fields: Json = {"op": op, "usage_reported": False}
    if failure or (response.get("status_code") or 200) >= 400:
        code = failure.get("code") or response.get("status_code")
        kind = str(failure.get("type") or code or "error")
        fields.update(status="error", error={"type": kind, "code": str(code), "message": failure.get("message")})
    else:
        fields.update(read.answer_fields(op, body))
    fields.update(service_tier="batch", model=fields.get("response_model"))
    made = body.get("created") or body.get("created_at")
    if isinstance(made, (int, float)):
        fields["ts"] = float(made)
    fields["provider"] = provider_of(given.get("host") or "", fields.get("model"))
    extra = {**fields.get("extra", {}), "custom_id": found.get("custom_id"), **given.get("extra", {})}
    return {**fields, **given, "extra": extra}


class _Split:
    """Splits a body into lines, piece by piece."""

    def __init__(self, lines: Any) -> None:
        self._lines, self._rest = lines, b""

    def add(self, piece: bytes) -> None:
        *whole, self._rest = (self._rest + piece).split(b"\n")
        self._pass(whole)

    def end(self) -> None:
        rest, self._rest = self._rest, b""
        self._pass([rest])

    def _pass(self, lines: List[bytes]) -> None:
        with contextlib.suppress(Exception):  # a failure of the recording must not reach the app
            self._lines(lines)


def _tap(response: Any, lines: Any) -> None:
    """Record the lines of a raw response while the app reads it.

    Of a file that is read in part, these are the lines that were read.
    """
    split = _Split(lines)
    iterate, iterate_async = response.iter_bytes, response.aiter_bytes

    def iter_bytes(*args: Any, **kwargs: Any) -> Iterator[bytes]:
        for piece in iterate(*args, **kwargs):
            split.add(piece)
            yield piece
        split.end()

    async def aiter_bytes(*args: Any, **kwargs: Any) -> Any:
        async for piece in iterate_async(*args, **kwargs):
            split.add(piece)
            yield piece
        split.end()

    response.iter_bytes, response.aiter_bytes = iter_bytes, aiter_bytes
