"""Builds the answer from the chunks of a stream of the OpenAI API. Pure."""

from typing import Any, Dict, Iterable, List, Mapping, Optional

from tailrace_emitter.adapters import openai_media
from tailrace_emitter.adapters.openai_fields import ENDED, answer_fields, chat_fields, response_fields, text_of
from tailrace_emitter.adapters.sdk_values import Json, as_dict, as_list, plain, reported


def stream_fields(op: str, chunks: Iterable[Any], asked: Optional[Mapping[str, Any]] = None) -> Json:
    """The fields of a stream, as of one answer; without a ``finish_reason`` where its end is missing."""
    received = [plain(chunk) for chunk in chunks]
    media = openai_media.media_stream(op, received)
    if media is not None:
        return answer_fields(op, media, asked)
    if any(str(chunk.get("type", "")).startswith("response.") for chunk in received):
        return reported(response_fields(_join_response(received)))
    return reported(chat_fields(_join_chat(received)))


def is_whole(op: str, fields: Json, chunks: List[Any]) -> bool:
    """Whether the answer is complete, although the app stopped reading."""
    if op in ("chat", "text_completion"):
        return fields.get("finish_reason") is not None or "error" in fields
    last = plain(chunks[-1]).get("type", "") if chunks else ""
    return str(last).endswith((".done", ".completed"))


def _usage(chunk: Json, choices: List[Json]) -> Any:
    """The usage of a chunk: in ``usage``, or where Groq and Moonshot put it."""
    found = chunk.get("usage") or as_dict(chunk.get("x_groq")).get("usage")
    return found or next((c["usage"] for c in choices if c.get("usage")), None)


def _join_chat(chunks: List[Json]) -> Json:
    """Build the chat completion from its chunks."""
    whole: Json = {"choices": []}
    held: Dict[int, Json] = {}
    for chunk in chunks:
        choices = as_list(chunk.get("choices"))
        for name in ("id", "model", "service_tier", "system_fingerprint"):
            if chunk.get(name):
                whole[name] = chunk[name]
        whole["usage"] = _usage(chunk, choices) or whole.get("usage")
        for choice in choices:
            _join_choice(held, choice)
    for number in sorted(held):
        message = held[number]["message"]
        message["tool_calls"] = message.pop("calls")
        whole["choices"].append(held[number])
    return whole


def _join_choice(held: Dict[int, Json], choice: Json) -> None:
    """Add one chunk's part of a choice to the choice."""
    empty: Json = {"content": "", "refusal": "", "audio": {"transcript": ""}, "calls": []}
    known = held.setdefault(choice.get("index") or 0, {"message": empty, "finish_reason": None})
    message, delta = known["message"], as_dict(choice.get("delta"))
    message["content"] += text_of(delta.get("content")) or choice.get("text") or ""
    message["refusal"] += delta.get("refusal") or ""
    message["audio"]["transcript"] += as_dict(delta.get("audio")).get("transcript") or ""
    known["finish_reason"] = choice.get("finish_reason") or known["finish_reason"]
    for piece in as_list(delta.get("tool_calls")):
        _join_tool(message["calls"], piece)
    if as_dict(delta.get("function_call")):
        _join_tool(message["calls"], {"function": delta["function_call"]})


def _join_tool(calls: List[Json], piece: Json) -> None:
    """Add one piece of a streamed tool call to the call it belongs to.

    A piece with a new id begins a call, at any index: some servers send every call as number 0.
    A piece without an id whose index was not seen begins one too, and so does a whole second call of the same index.
    """
    function, number, name = as_dict(piece.get("function")), piece.get("index") or 0, piece.get("id")
    held = next((c for c in reversed(calls) if (c["id"] == name if name else c["index"] == number)), None)
    if held is not None and not name and function.get("name") and held["function"]["arguments"].endswith("}"):
        held = None
    if held is None:
        held = {"id": name, "index": number, "function": {"name": "", "arguments": ""}}
        calls.append(held)
    held["function"]["name"] = function.get("name") or held["function"]["name"]
    held["function"]["arguments"] += function.get("arguments") or ""


def _join_response(events: List[Json]) -> Json:
    """The response that a stream of events ends with, or as much of it as was received."""
    answer: Json = {}
    for event in events:
        if isinstance(event.get("response"), dict):
            answer = event["response"]
        elif event.get("type") == "error":
            answer = {**answer, "status": "failed", "error": {k: event.get(k) for k in ("code", "message")}}
    if answer.get("status") in ENDED and answer.get("output"):
        return answer
    return {**answer, "object": "response", "output": _received_items(events)}


def _received_items(events: List[Json]) -> List[Json]:
    """The items of a response so far: whole ones, and the pieces of those that have not ended."""
    items: Dict[Any, Json] = {}
    for event in events:
        kind, number = str(event.get("type")), event.get("output_index", 0)
        delta = str(event.get("delta") or "")
        if kind in ("response.output_item.added", "response.output_item.done"):
            items[number] = dict(as_dict(event.get("item")))
        elif kind in ("response.output_text.delta", "response.refusal.delta"):
            item = items.setdefault(number, {"type": "message"})
            key = "refusal" if "refusal" in kind else "text"
            content = item["content"] = list(item.get("content") or [])
            if not content or key not in content[-1]:
                content.append({"type": "refusal" if key == "refusal" else "output_text", key: ""})
            content[-1] = {**content[-1], key: content[-1][key] + delta}
        elif kind in ("response.function_call_arguments.delta", "response.mcp_call_arguments.delta"):
            item = items.setdefault(number, {"type": "function_call"})
            item["arguments"] = (item.get("arguments") or "") + delta
        elif kind == "response.custom_tool_call_input.delta":
            item = items.setdefault(number, {"type": "custom_tool_call"})
            item["input"] = (item.get("input") or "") + delta
    return [items[number] for number in sorted(items, key=lambda n: n if isinstance(n, int) else 0)]
