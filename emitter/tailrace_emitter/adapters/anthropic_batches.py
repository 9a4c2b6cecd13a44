"""Anthropic's message batches: one event for each result that the app reads, on the owner of the batch.

The request of a batch has no usage, so making one records nothing. Its results may be read twice, or in another
process: the event's id follows from the batch and the request, so that a result counts once.
"""

import contextlib
import json
import re
import uuid
from collections import OrderedDict
from functools import partial
from typing import Any, AsyncIterator, Callable, Dict, Iterator, Mapping

from tailrace_emitter.adapters import anthropic_fields as read
from tailrace_emitter.context import around_here
from tailrace_emitter.emitter import Emitter

_BATCHES = "/v1/messages/batches"
_RESULTS = re.compile(r"/v1/messages/batches/([^/?]+)/results")
_MAX_BATCHES = 1_024
"""Batches whose owner is stored. A result of an older batch is recorded in the context of the code that reads it."""
_contexts: "OrderedDict[str, Mapping[str, Any]]" = OrderedDict()
"""Batch id -> what ``context(...)`` held where the batch was made."""


def observed(client: Any, options: Any, result: Any, emitter_of: Callable[[Any], Emitter]) -> Any:
    """Store the owner of a new batch, record the results of a finished one; returns ``result``."""
    with contextlib.suppress(Exception):  # a failure of the recording must not reach the app
        path, method = str(options.url).split("?", 1)[0], str(options.method).lower()
        if method == "post" and path.rstrip("/") == _BATCHES:
            _remember(result)
        elif method == "get" and (found := _RESULTS.search(path)):
            recorder = emitter_of(client)
            if not recorder.disabled:
                _tap(result, _Results(found.group(1), recorder, client))
    return result


def _remember(made: Any) -> None:
    batch_id = made.http_response.json()["id"] if hasattr(made, "http_response") else made.id
    _contexts[str(batch_id)] = around_here()
    while len(_contexts) > _MAX_BATCHES:
        _contexts.popitem(last=False)


class _Results:
    """Records each line of a batch's results."""

    def __init__(self, batch_id: str, emitter: Emitter, client: Any) -> None:
        self._batch_id, self._emitter, self._host = batch_id, emitter, client.base_url.host
        self._context = _contexts.get(batch_id)
        self._rest = b""

    def add(self, piece: bytes) -> None:
        """Add bytes of the body that the app has read."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._record(line)

    def end(self) -> None:
        """The body ended, perhaps without a last line end."""
        rest, self._rest = self._rest, b""
        self._record(rest)

    def _record(self, line: bytes) -> None:
        with contextlib.suppress(Exception):
            if line.strip():
                found = json.loads(line)
                key = json.dumps([self._batch_id, found["custom_id"]])
                self._emitter.record(
                    {"host": self._host},
                    partial(_fields, self._batch_id, found, self._host),
                    context=self._context,
                    event_id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"anthropic:{key}")),
                )


def _fields(batch_id: str, found: Dict[str, Any], host: str, given: Dict[str, Any]) -> Dict[str, Any]:
    """One line of the results as the fields of a call."""
    result = found["result"]
    kind = result.get("type")
    fields: Dict[str, Any] = {"op": "chat", "usage_reported": False, "service_tier": "batch"}
    if kind == "succeeded":
        fields.update(read.answer_fields(result["message"]))
        fields["model"] = fields.get("response_model")
    elif kind == "canceled":
        fields["status"] = "cancelled"
    else:  # errored, expired
        error = result.get("error") or {}
        error = error.get("error") or error
        described = {"type": error.get("type") or kind, "message": error.get("message")}
        fields.update(status="error", error={k: v for k, v in described.items() if v is not None})
    fields["provider"] = read.provider_of(host, None, fields.get("model"))
    extra = {**fields.get("extra", {}), "batch_id": batch_id, "custom_id": found["custom_id"], **given.get("extra", {})}
    return {**fields, **given, "extra": extra}


def _tap(result: Any, results: _Results) -> None:
    """Record what the app reads: a line decoder reads its own iterator of bytes, a raw response that of its body."""
    decoder = result.__dict__.get("_raw_iterator")
    if decoder is not None:
        result._raw_iterator = (_async_pieces if hasattr(decoder, "__anext__") else _pieces)(decoder, results)
        return
    response = result.http_response
    iterate, iterate_async = response.iter_bytes, response.aiter_bytes
    response.iter_bytes = lambda *args, **kwargs: _pieces(iterate(*args, **kwargs), results)
    response.aiter_bytes = lambda *args, **kwargs: _async_pieces(iterate_async(*args, **kwargs), results)


def _pieces(inner: Iterator[bytes], results: _Results) -> Iterator[bytes]:
    for piece in inner:
        results.add(piece)
        yield piece
    results.end()


async def _async_pieces(inner: AsyncIterator[bytes], results: _Results) -> AsyncIterator[bytes]:
    async for piece in inner:
        results.add(piece)
        yield piece
    results.end()
