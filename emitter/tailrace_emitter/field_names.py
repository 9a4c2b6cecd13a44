"""Other names for the fields of an event: which are accepted, and which field a wrong name most likely means.

Accepted are the flat column names of the lake (``input_tokens``, ``latency_ms``, ``user_id``), read off ``event.py``,
and a few short ones. Names of other vocabularies and typing errors are never accepted, only recognised: the same name
can mean another unit or another count there.
"""

import functools
import itertools
import re
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from msgspec import inspect as mi

from tailrace_emitter import event as ev

UNKNOWN = "tailrace_unknown_fields"
"""Key of ``extra`` in which an emitter names the unknown fields; the server makes flags of it and takes it out."""
MAX_REPORTED = 4
"""Unknown names of one event that are reported."""
MAX_LOOKED_AT = 8
"""Unknown names of one event that are compared with the fields."""
NAME_CHARS = 64
_INDEX = re.compile(r"\.\d+(?=\.|$)")
_CONTENT = {"messages": "content.input", "input_text": "content.input", "input": "content.input"}
_CONTENT.update({"content.messages": "content.input", "output": "content.output", "system": "content.system"})
_OWN = frozenset(("top_k", "user_ip", "total_tokens", "metadata"))
"""Names that differ from a field by a letter or two, and mean something else."""

# OpenTelemetry GenAI up to 1.41, OpenInference, OpenLLMetry, LiteLLM, Langfuse, the providers, and plain words.
_CALL_WORDS = {
    "id": "litellm_call_id call_id event_id",
    "ts": "timestamp time created_at start_time",
    "app": "service service_name application app_name project project_name",
    "model": "model_name llm.model_name llm.request.model_name",
    "response_model": "llm.response.model_name",
    "provider": "gen_ai.system llm.provider llm.system custom_llm_provider vendor",
    "op": "operation operation_name call_type llm.request.type",
    "env": "environment deployment_environment",
    "release": "app_version service_version",
    "tenant": "org_id organization organization_id customer_id user_api_key_org_id",
    "team": "team_id user_api_key_team_id",
    "user": "end_user enduser.id llm.user username usr uid",
    "session_id": "session conversation_id thread_id chat_id",
    "trace_id": "trace",
    "parent_id": "parent_span_id parent_observation_id",
    "finish_reason": "stop_reason gen_ai.response.finish_reasons llm.finish_reason llm.response.finish_reason",
    "stream": "streaming is_stream is_streaming llm.is_streaming",
    "latency.total_ms": "duration duration_ms elapsed_ms response_ms response_time response_time_ms latency_seconds",
    "latency.ttft_ms": (
        "ttft time_to_first_token time_to_first_token_ms completion_start_time gen_ai.response.time_to_first_chunk"
        " gen_ai.server.time_to_first_token"
    ),
    "tokens": "usage usage_details token_usage",
    "tokens.input": (
        "prompt_tokens tokens_in tokens_input input_token_count gen_ai.usage.prompt_tokens llm.usage.prompt_tokens"
        " llm.token_count.prompt"
    ),
    "tokens.output": (
        "completion_tokens tokens_out tokens_output output_token_count gen_ai.usage.completion_tokens"
        " llm.usage.completion_tokens llm.token_count.completion"
    ),
    "tokens.cache_read": (
        "cached_tokens cache_read_input_tokens gen_ai.usage.cache_read_input_tokens"
        " llm.token_count.prompt_details.cache_read"
    ),
    "tokens.cache_write": (
        "cache_creation_input_tokens cache_write_input_tokens gen_ai.usage.cache_creation.input_tokens"
        " gen_ai.usage.cache_creation_input_tokens llm.token_count.prompt_details.cache_write"
    ),
    "tokens.reasoning": "gen_ai.usage.reasoning_tokens llm.token_count.completion_details.reasoning thinking_tokens",
    "cost_reported": "cost cost_usd total_cost response_cost llm.cost.total cost_details usd price",
    "cache": "cache_hit",
    "cache.saved": "saved_cache_cost",
    "fingerprint": "system_fingerprint gen_ai.openai.system_fingerprint",
    "host": "api_base base_url server_address gen_ai.openai.api_base",
    "prompt.name": "prompt_id prompt_key template_name traceloop.prompt.key",
    "prompt.version": "llm.prompt_template.version traceloop.prompt.version template_version",
    "prompt.variables": "llm.prompt_template.variables traceloop.prompt.template_variables",
    "params": "model_parameters llm.invocation_parameters invocation_parameters parameters",
    "params.temperature": "gen_ai.request.temperature",
    "params.top_p": "gen_ai.request.top_p",
    "params.max_tokens": "gen_ai.request.max_tokens max_completion_tokens max_output_tokens",
    "params.seed": "gen_ai.request.seed",
    "params.reasoning": "gen_ai.request.reasoning.level",
    "content.system": "system_prompt system_instruction system_instructions gen_ai.system_instructions",
    "content.input": "input_messages prompt_text input.value llm.input_messages gen_ai.prompt",
    "content.output": (
        "completion response answer response_text output_messages output.value llm.output_messages gen_ai.completion"
    ),
    "tools": "tool_calls function_calls mcp_tool_call_metadata",
    "retrieval.docs": "docs documents chunks retrieved_docs retrieval.documents gen_ai.retrieval.documents",
    "retrieval.top_k": "gen_ai.retrieval.top_k",
    "guardrails": "guardrail guardrail_information guardrail_results",
    "tags": "tag request_tags tag.tags",
    "error": "exception error_information",
    "error.type": "error_class",
    "error.message": "error_str status_message",
    "agent": "agent_name",
}
_JUDGEMENT_WORDS = {
    "call_id": "observation_id span_id call",
    "trace_id": "trace",
    "score": "value rating thumbs",
}
_WORDS = {
    "call": _CALL_WORDS,
    "feedback": {
        **_JUDGEMENT_WORDS,
        "user": "annotator",
        "comment": "explanation text reason",
        "kind": "name",
        "edited": "correction",
    },
    "eval": {**_JUDGEMENT_WORDS, "name": "metric metric_name", "explanation": "comment reason rationale"},
}
_PART_WORDS = {
    "latency": {"total_ms": "total ms duration", "ttft_ms": "ttft"},
    "tokens": {"input": "prompt in", "output": "completion out"},
    "prompt": {"name": "id key"},
    "content": {"system": "system_prompt", "output": "completion response text"},
    "content.input": {"text": "content"},
    "tools": {"args": "arguments input", "ms": "duration latency duration_ms", "id": "call_id", "ok": "success"},
    "retrieval": {"docs": "documents chunks", "ms": "duration latency"},
    "retrieval.docs": {"text": "content chunk_text page_content", "id": "doc_id document_id", "score": "similarity"},
    "guardrails": {"stage": "source", "action": "result status verdict", "score": "risk_score"},
    "error": {"type": "class error_class name", "message": "msg text"},
    "evaluator": {"kind": "annotator_kind type"},
    "cache": {"kind": "hit type"},
}


def _struct(kind: Any) -> Tuple[Optional[mi.StructType], Dict[str, str]]:
    """Return the struct inside a field's type, also inside a list, and the extra facts of the declaration."""
    extra: Dict[str, str] = {}
    if isinstance(kind, mi.Metadata):
        extra = dict(kind.extra or {})
        kind = kind.type
    for one in kind.types if isinstance(kind, mi.UnionType) else (kind,):
        if isinstance(one, mi.Metadata):
            one = one.type
        if isinstance(one, mi.ListType):
            return _struct(one.item_type)[0], extra
        if isinstance(one, mi.StructType):
            return one, extra
    return None, extra


def _declared(struct: mi.StructType, path: str = "", *, flat: bool = True) -> Dict[str, Tuple[str, str]]:
    """Return each field's path -> (its flat name or "", its OpenTelemetry name or "")."""
    found: Dict[str, Tuple[str, str]] = {}
    for field in struct.fields:
        inner, extra = _struct(field.type)
        here = f"{path}{field.encode_name}"
        found[here] = (extra.get("lake", here.replace(".", "_")) if flat else "", extra.get("otel", ""))
        if inner is not None:
            listed = inner.cls in (ev.Message, ev.Tool, ev.Doc, ev.Guardrail, ev.Unit)
            found.update(_declared(inner, here + ".", flat=flat and not listed))
    return found


def _of_kind(struct: Any) -> Dict[str, Tuple[str, str]]:
    info = mi.type_info(struct)
    assert isinstance(info, mi.StructType)
    return _declared(info)


_DECLARED = {str(t.__struct_config__.tag): _of_kind(t) for t in ev.EVENT_TYPES}


def _accepted(kind: str) -> Dict[str, str]:
    declared = _DECLARED[kind]
    accepted = {flat: path for path, (flat, _) in declared.items() if flat and flat not in declared}
    accepted.update({path: path for path in declared if "." in path and declared[path][0]})
    return {**accepted, **_CONTENT} if kind == "call" else accepted


ACCEPTED = {kind: _accepted(kind) for kind in _DECLARED}
"""Event type -> accepted name -> path of the field: flat names of the lake, and the path itself as one key."""


def cleaned(name: str) -> str:
    """Return a name from an event in a form that is safe to show: at most 64 of A-Z, a-z, 0-9, ``_ . -``."""
    return re.sub(r"[^A-Za-z0-9_.-]", "?", name[:NAME_CHARS])


def unknown_fields(kind: str, paths: Iterable[str]) -> Dict[str, str]:
    """Return unknown name -> the field it most likely means, of the first few of ``paths``; the app's own are left out.

    Args:
        kind: call, feedback or eval.
        paths: unknown names, each with the path to its object; entries of lists by number (``tools.0.nme``).
    """
    found: Dict[str, str] = {}
    for path in itertools.islice(paths, MAX_LOOKED_AT):
        field = meant(kind, path)
        if field is not None:
            found[path] = field
            if len(found) == MAX_REPORTED:
                break
    return found


def is_declared(kind: str, path: str) -> bool:
    """Whether ``path`` is a field, so that only its value can be wrong."""
    return _INDEX.sub("", path) in _DECLARED[kind]


def meant(kind: str, path: str) -> Optional[str]:
    """Return the field that an unknown name most likely means; None where it looks like no field.

    Only names of a bounded length are cached: a name in an event may be as long as a message.
    """
    return _meant(kind, path) if len(path) <= NAME_CHARS else None


@functools.lru_cache(maxsize=1024)
def _meant(kind: str, path: str) -> Optional[str]:
    place = _INDEX.sub("", path)
    holder, _, last = place.rpartition(".")
    if holder not in _DECLARED[kind]:
        holder, last = "", place
    word = _plain(last)
    if not word or word in _OWN:
        return None
    exact, near, longest = _known(kind, holder)
    if word in exact:
        return exact[word]
    slips = _slips(word, nested=bool(holder))
    if len(word) > longest + slips:  # the pieces of a long word are thousands
        return None
    alike = {name for piece in _pieces(word, slips) for name in near.get(piece, ())}
    ranked = sorted((_distance(word, name), name) for name in alike)
    return exact[ranked[0][1]] if ranked and ranked[0][0] <= slips else None


def _plain(name: str) -> str:
    """Return ``name`` in lower case with underscores: ``inputTokens`` and ``input-tokens`` are ``input_tokens``."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def _slips(word: str, *, nested: bool) -> int:
    """Return how many typing errors still count as the same word. Inside our own objects an app defines no names."""
    shortest = 3 if nested else 5
    return 0 if len(word) < shortest else (1 if len(word) < 8 else 2)


def _pieces(word: str, slips: int) -> Set[str]:
    """Return ``word`` and what is left of it without up to ``slips`` characters.

    Words within that many edits of one another share a piece: https://github.com/wolfgarbe/SymSpell
    """
    pieces = {word}
    for _ in range(slips):
        pieces |= {piece[:i] + piece[i + 1 :] for piece in pieces for i in range(len(piece))}
    return pieces


@functools.lru_cache(maxsize=64)
def _known(kind: str, holder: str) -> Tuple[Dict[str, str], Dict[str, List[str]], int]:
    """Return the fields of ``holder`` ("" is the top).

    Returns:
        plain name -> path, piece -> names to compare with, the length of the longest of these.
    """
    declared = _DECLARED[kind]
    words = {f"{holder}.{k}": v for k, v in _PART_WORDS.get(holder, {}).items()} if holder else _WORDS[kind]
    exact = {_plain(word): path for path, several in words.items() for word in several.split() if path in declared}
    if not holder:
        exact.update({_plain(otel): path for path, (_, otel) in declared.items() if otel})
    ours = {_plain(path.rpartition(".")[2]): path for path in declared if path.rpartition(".")[0] == holder}
    inside = {f: p for f, p in ACCEPTED[kind].items() if not holder or p.startswith(holder + ".")}
    ours.update({_plain(flat): path for flat, path in inside.items()})
    exact.update(ours)
    near: Dict[str, List[str]] = {}
    compared = exact if holder else ours
    for name in compared:
        for piece in _pieces(name, 2):
            near.setdefault(piece, []).append(name)
    return exact, near, max(map(len, compared), default=0)


def _distance(a: str, b: str) -> int:
    """Return the edits between two words: insert, delete, replace, swap of neighbours (optimal string alignment)."""
    older: List[int] = []
    before: List[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        older, before, row = before, row, [i]
        for j, y in enumerate(b, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
    return row[-1]
