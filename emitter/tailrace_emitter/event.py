"""The events: the only place where a field is declared.

JSON Schema, Arrow schema and lake columns are derived from these structs. ``UNSET`` is "not reported" and is left out
of the JSON; ``None`` is an explicit null; both are NULL in the lake, never 0.

Every field carries, in ``Meta.extra``, what the derivation needs: ``lake`` (its column in the lake; default
is the path joined by ``_``), ``arrow`` (a type other than the Python type's own), ``otel`` (its OpenTelemetry name),
``default`` (what its absence means; most fields have none, and their absence means "not reported") and ``text``: the
field holds free text, and follows the content mode (``tailrace_emitter.text_fields``).
"""

import uuid
from datetime import datetime
from typing import Annotated, Any, Dict, List, Literal, Optional, Union

import msgspec
from msgspec import UNSET, Meta, UnsetType

SCHEMA_VERSION = 1
MAX_SAFE_INT = 2**53 - 1
NAME_CHARS = 256
ID_CHARS = 128
UNIT_CHARS = 64
MAX_UNITS = 64


def _meta(
    doc: str,
    *,
    lake: Optional[str] = None,
    arrow: Optional[str] = None,
    otel: Optional[str] = None,
    unit: str = "",
    default: Optional[str] = None,
    text: bool = False,
) -> Meta:
    named = (("lake", lake), ("arrow", arrow), ("otel", otel), ("unit", unit), ("default", default), ("text", text))
    published = {"default": default} if default else None
    return Meta(description=doc, extra={k: v for k, v in named if v} or None, extra_json_schema=published)


Name = Annotated[str, Meta(max_length=NAME_CHARS)]
Ident = Annotated[str, Meta(min_length=1, max_length=ID_CHARS)]
Required = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS)]
Tag = Annotated[str, Meta(max_length=64)]
Count = Annotated[int, Meta(ge=0, le=MAX_SAFE_INT)]
Small = Annotated[int, Meta(ge=0, le=32767)]
Int32 = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Millis = Annotated[float, Meta(ge=0, le=float(MAX_SAFE_INT))]
Quantity = Annotated[float, Meta(ge=0, le=float(MAX_SAFE_INT))]
Usd = Annotated[float, Meta(ge=0, le=999_999_999.0)]
Time = Union[Annotated[datetime, Meta(tz=True)], Annotated[int, Meta(ge=-62_135_596_800_000, le=253_402_300_799_999)]]
OptName = Union[Name, None, UnsetType]
OptIdent = Union[Ident, None, UnsetType]
OptText = Union[str, None, UnsetType]
OptCount = Union[Count, None, UnsetType]
OptSmall = Union[Small, None, UnsetType]
OptInt32 = Union[Int32, None, UnsetType]
OptMillis = Union[Millis, None, UnsetType]
OptFloat = Union[float, None, UnsetType]
OptQuantity = Union[Quantity, None, UnsetType]
OptUsd = Union[Usd, None, UnsetType]
OptBool = Union[bool, None, UnsetType]
OptJson = Union[Dict[str, Any], None, UnsetType]
OptUuid = Union[uuid.UUID, None, UnsetType]


class Part(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of the structs inside an event."""


class Error(Part):
    """Why a call failed."""

    type: Annotated[OptName, _meta("low-cardinality class of the error", otel="error.type")] = UNSET
    code: Annotated[OptName, _meta("the provider's code, as text")] = UNSET
    message: Annotated[OptText, _meta("redacted, cut to 500 characters", text=True)] = UNSET


class Latency(Part):
    """Wall time as the caller saw it."""

    total_ms: Annotated[OptMillis, _meta("request to last byte", lake="latency_ms", unit="ms")] = UNSET
    ttft_ms: Annotated[OptMillis, _meta("request to first chunk", lake="ttft_ms", unit="ms")] = UNSET


class Tokens(Part):
    """Inclusive totals: input includes cached, output includes reasoning."""

    input: Annotated[
        OptCount,
        _meta("input, cached included", lake="input_tokens", otel="gen_ai.usage.input_tokens", unit="tokens"),
    ] = UNSET
    output: Annotated[
        OptCount,
        _meta(
            "output, reasoning included",
            lake="output_tokens",
            otel="gen_ai.usage.output_tokens",
            unit="tokens",
        ),
    ] = UNSET
    cache_read: Annotated[
        OptCount,
        _meta(
            "input served from the provider's prompt cache",
            lake="cache_read_tokens",
            otel="gen_ai.usage.cache_read.input_tokens",
            unit="tokens",
        ),
    ] = UNSET
    cache_write: Annotated[
        OptCount,
        _meta(
            "input written to the prompt cache",
            lake="cache_write_tokens",
            otel="gen_ai.usage.cache_write.input_tokens",
            unit="tokens",
        ),
    ] = UNSET
    cache_write_1h: Annotated[
        OptCount,
        _meta("part of cache_write with one hour to live", lake="cache_write_1h_tokens", unit="tokens"),
    ] = UNSET
    reasoning: Annotated[
        OptCount,
        _meta(
            "part of output spent on reasoning",
            lake="reasoning_tokens",
            otel="gen_ai.usage.reasoning.output_tokens",
            unit="tokens",
        ),
    ] = UNSET
    audio_in: Annotated[OptCount, _meta("audio part of input", lake="audio_in_tokens", unit="tokens")] = UNSET
    audio_out: Annotated[OptCount, _meta("audio part of output", lake="audio_out_tokens", unit="tokens")] = UNSET
    images: Annotated[OptCount, _meta("images sent or made", lake="images", unit="images")] = UNSET


class Unit(Part):
    """An amount that is billed and that no field of ``tokens`` holds: searches, images, seconds, pages, a fee.

    ``unit`` is a usage key of genai-prices (``web_searches``, ``output_image_tokens``, ``input_audio_seconds``), with
    its meaning: a quantity includes those of the more specific units beside it, and quantities of tokens are parts of
    ``tokens.input`` and ``tokens.output``. A unit with any other name is kept, and is not priced.
    """

    unit: Annotated[
        Union[Annotated[str, Meta(min_length=1, max_length=UNIT_CHARS)], None, UnsetType],
        _meta("usage key of genai-prices, such as web_searches"),
    ] = UNSET
    quantity: Annotated[OptQuantity, _meta("how many; NULL = used, and not counted")] = UNSET


class Cache(Part):
    """The app's own answer cache, not the provider's prompt cache."""

    kind: Annotated[
        Union[Literal["none", "exact", "semantic"], None, UnsetType],
        _meta("which cache answered", lake="answer_cache"),
    ] = UNSET
    saved: Annotated[
        OptUsd, _meta("what the hit saved", lake="answer_cache_saved_usd", arrow="decimal", unit="USD")
    ] = UNSET


class Prompt(Part):
    """The template that made the input."""

    name: Annotated[OptName, _meta("template name", otel="gen_ai.prompt.name")] = UNSET
    version: Annotated[OptName, _meta("template version, as text", otel="gen_ai.prompt.version")] = UNSET
    hash: Annotated[OptName, _meta("hash of the template text")] = UNSET
    variables: Annotated[OptJson, _meta("values put into the template; follows content.mode", text=True)] = UNSET


class Params(Part):
    """The few request parameters that explain drift."""

    temperature: Annotated[OptFloat, _meta("sampling temperature", lake="temperature")] = UNSET
    top_p: Annotated[OptFloat, _meta("nucleus sampling", lake="top_p")] = UNSET
    max_tokens: Annotated[OptCount, _meta("limit of the answer", lake="max_tokens", unit="tokens")] = UNSET
    reasoning: Annotated[OptName, _meta("reasoning effort", lake="reasoning_effort")] = UNSET
    seed: Annotated[
        Union[Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)], None, UnsetType],
        _meta("sampling seed", lake="seed"),
    ] = UNSET


class Message(Part):
    """One turn of the conversation."""

    role: Annotated[OptName, _meta("system, user, assistant, tool")] = UNSET
    text: Annotated[OptText, _meta("text; other parts become [image], [audio], [file]", text=True)] = UNSET


class Content(Part):
    """The texts of a call, under one redaction mode."""

    mode: Annotated[
        Union[Literal["full", "redacted", "hashed", "none"], None, UnsetType], _meta("redaction marker")
    ] = UNSET
    truncated: Annotated[OptBool, _meta("cut to the size limit")] = UNSET
    system: Annotated[OptText, _meta("system instructions", lake="system_text", text=True)] = UNSET
    input: Annotated[
        Union[List[Message], None, UnsetType],
        _meta("the conversation sent", lake="messages", otel="gen_ai.input.messages"),
    ] = UNSET
    output: Annotated[OptText, _meta("the answer", lake="output_text", otel="gen_ai.output.messages", text=True)] = (
        UNSET
    )
    chars: Annotated[OptCount, _meta("length before cutting", unit="characters")] = UNSET


class Tool(Part):
    """A tool the model asked for or the app ran."""

    name: Annotated[OptName, _meta("tool name", otel="gen_ai.tool.name")] = UNSET
    id: Annotated[OptName, _meta("call id", otel="gen_ai.tool.call.id")] = UNSET
    ok: Annotated[OptBool, _meta("it succeeded")] = UNSET
    ms: Annotated[OptMillis, _meta("duration", unit="ms")] = UNSET
    args: Annotated[OptText, _meta("arguments; follow content.mode", text=True)] = UNSET


class Doc(Part):
    """A retrieved chunk."""

    id: Annotated[OptName, _meta("document id")] = UNSET
    rank: Annotated[OptInt32, _meta("1 is first", arrow="int32")] = UNSET
    score: Annotated[OptFloat, _meta("retriever's score")] = UNSET
    chunk: Annotated[OptName, _meta("chunk id")] = UNSET
    text: Annotated[OptText, _meta("chunk text; follows content.mode", text=True)] = UNSET
    cited: Annotated[OptBool, _meta("the answer cites it")] = UNSET
    relevant: Annotated[OptBool, _meta("judged relevant")] = UNSET


class Retrieval(Part):
    """What was looked up before the call."""

    query: Annotated[OptText, _meta("the query", otel="gen_ai.retrieval.query.text", text=True)] = UNSET
    source: Annotated[OptName, _meta("vector store or engine", otel="gen_ai.data_source.id")] = UNSET
    index: Annotated[OptName, _meta("index or collection")] = UNSET
    top_k: Annotated[OptInt32, _meta("asked for", arrow="int32")] = UNSET
    ms: Annotated[OptMillis, _meta("duration", unit="ms")] = UNSET
    docs: Annotated[Union[List[Doc], None, UnsetType], _meta("what came back; an empty list is an empty retrieval")] = (
        UNSET
    )


class Guardrail(Part):
    """One check that ran on this call."""

    name: Annotated[OptName, _meta("guardrail", otel="gen_ai.guardrail.component.name")] = UNSET
    stage: Annotated[OptName, _meta("input, output, tool, retrieval")] = UNSET
    action: Annotated[
        Union[Literal["pass", "flag", "redact", "block", "error"], None, UnsetType], _meta("what it did")
    ] = UNSET
    score: Annotated[OptFloat, _meta("risk score")] = UNSET
    category: Annotated[OptName, _meta("risk category")] = UNSET
    ms: Annotated[OptMillis, _meta("duration", unit="ms")] = UNSET


class Event(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="type"):
    """The envelope that all events share."""

    v: Annotated[Literal[1], _meta("schema version", arrow="int16")]
    id: Annotated[uuid.UUID, _meta("made once per event, kept on every resend: the identity for deduplication")]
    ts: Annotated[Time, _meta("start of the request, event time; RFC 3339 with zone or epoch milliseconds")]


class Call(Event, tag="call"):
    """One attempted LLM call."""

    app: Annotated[Required, _meta("emitting application", otel="service.name")]
    model: Annotated[Required, _meta("model asked for, as sent", otel="gen_ai.request.model")]
    response_model: Annotated[OptName, _meta("model that answered", otel="gen_ai.response.model")] = UNSET
    provider: Annotated[OptName, _meta("provider, OpenTelemetry's list", arrow="dict", otel="gen_ai.provider.name")] = (
        UNSET
    )
    op: Annotated[
        OptName,
        _meta("chat, embeddings, ...; absent means chat", arrow="dict", otel="gen_ai.operation.name", default="chat"),
    ] = UNSET
    env: Annotated[OptName, _meta("prod, staging, ...", arrow="dict", otel="deployment.environment.name")] = UNSET
    feature: Annotated[OptName, _meta("product feature")] = UNSET
    team: Annotated[OptName, _meta("cost owner")] = UNSET
    tenant: Annotated[OptName, _meta("customer", lake="tenant_id")] = UNSET
    user: Annotated[OptName, _meta("pseudonymous user", lake="user_id", otel="user.id")] = UNSET
    session_id: Annotated[OptIdent, _meta("conversation, never invented", otel="gen_ai.conversation.id")] = UNSET
    trace_id: Annotated[OptIdent, _meta("trace, 32 hex digits")] = UNSET
    span_id: Annotated[OptIdent, _meta("span, 16 hex digits")] = UNSET
    parent_id: Annotated[OptIdent, _meta("parent span, 16 hex digits")] = UNSET
    status: Annotated[
        Union[Literal["ok", "error", "blocked", "cancelled"], None, UnsetType],
        _meta("how it ended; absent means ok", arrow="dict", default="ok"),
    ] = UNSET
    error: Annotated[Union[Error, None, UnsetType], _meta("why it failed")] = UNSET
    finish_reason: Annotated[
        OptName, _meta("why the answer ended", arrow="dict", otel="gen_ai.response.finish_reasons[0]")
    ] = UNSET
    retries: Annotated[OptSmall, _meta("failed attempts inside this call", arrow="int16")] = UNSET
    stream: Annotated[OptBool, _meta("streamed", otel="gen_ai.request.stream")] = UNSET
    latency: Annotated[Union[Latency, None, UnsetType], _meta("wall time")] = UNSET
    tokens: Annotated[Union[Tokens, None, UnsetType], _meta("usage")] = UNSET
    units: Annotated[
        Union[Annotated[List[Unit], Meta(max_length=MAX_UNITS)], None, UnsetType],
        _meta("billed amounts that tokens cannot hold; where a field of tokens has the same amount, that field counts"),
    ] = UNSET
    cost_reported: Annotated[
        OptUsd,
        _meta("cost that the provider or gateway reported", lake="cost_reported_usd", arrow="decimal", unit="USD"),
    ] = UNSET
    cache: Annotated[Union[Cache, None, UnsetType], _meta("answer cache")] = UNSET
    release: Annotated[OptName, _meta("the app's release", otel="service.version")] = UNSET
    config_version: Annotated[OptName, _meta("version of routing, retrieval or agent configuration")] = UNSET
    tools_hash: Annotated[OptName, _meta("hash of the tool definitions")] = UNSET
    fingerprint: Annotated[OptName, _meta("the provider's own mark of a changed model")] = UNSET
    service_tier: Annotated[OptName, _meta("provider's tier; changes the price")] = UNSET
    attempt: Annotated[OptSmall, _meta("1 for the first try", arrow="int16")] = UNSET
    fallback_from: Annotated[OptName, _meta("model that failed before this one")] = UNSET
    refused: Annotated[OptBool, _meta("the model refused")] = UNSET
    usage_reported: Annotated[OptBool, _meta("tokens came from the provider; false = estimated or absent")] = UNSET
    prompt: Annotated[Union[Prompt, None, UnsetType], _meta("template")] = UNSET
    params: Annotated[Union[Params, None, UnsetType], _meta("request parameters")] = UNSET
    content: Annotated[Union[Content, None, UnsetType], _meta("texts")] = UNSET
    tools: Annotated[Union[List[Tool], None, UnsetType], _meta("tools asked for or run")] = UNSET
    retrieval: Annotated[Union[Retrieval, None, UnsetType], _meta("retrieval")] = UNSET
    guardrails: Annotated[Union[List[Guardrail], None, UnsetType], _meta("checks that ran")] = UNSET
    experiment: Annotated[OptName, _meta("experiment", otel="feature_flag.key")] = UNSET
    variant: Annotated[OptName, _meta("variant", otel="feature_flag.result.variant")] = UNSET
    response_id: Annotated[OptName, _meta("the provider's id of the answer", otel="gen_ai.response.id")] = UNSET
    host: Annotated[OptName, _meta("provider's host, no path", otel="server.address")] = UNSET
    agent: Annotated[OptName, _meta("agent", otel="gen_ai.agent.name")] = UNSET
    tags: Annotated[
        Union[Annotated[List[Tag], Meta(max_length=20)], None, UnsetType],
        _meta("up to 20 tags of 64 characters"),
    ] = UNSET
    extra: Annotated[OptJson, _meta("unknown and custom keys; at most 64 keys and 8 KiB")] = UNSET


class Feedback(Event, tag="feedback"):
    """Feedback of a person on a call, a trace, a session or a response."""

    kind: Annotated[
        Literal["thumbs", "rating", "comment", "edit", "accept", "copy"],
        _meta("kind of feedback", arrow="dict"),
    ]
    app: Annotated[OptName, _meta("emitting application")] = UNSET
    env: Annotated[OptName, _meta("prod, staging, ...", arrow="dict")] = UNSET
    call_id: Annotated[OptUuid, _meta("the judged call")] = UNSET
    trace_id: Annotated[OptIdent, _meta("the judged trace")] = UNSET
    session_id: Annotated[OptIdent, _meta("the judged session")] = UNSET
    response_id: Annotated[OptName, _meta("the provider's id of the judged answer")] = UNSET
    user: Annotated[OptName, _meta("who, a pseudonym", lake="user_id")] = UNSET
    score: Annotated[OptFloat, _meta("thumbs -1 / +1; rating 0..1")] = UNSET
    label: Annotated[OptName, _meta("reason picked from a list")] = UNSET
    comment: Annotated[OptText, _meta("free text; redacted like content", text=True)] = UNSET
    edited: Annotated[OptText, _meta("the user's corrected output; follows content mode", text=True)] = UNSET
    feature: Annotated[OptName, _meta("if known")] = UNSET
    model: Annotated[OptName, _meta("if known")] = UNSET
    prompt_version: Annotated[OptName, _meta("if known")] = UNSET
    variant: Annotated[OptName, _meta("if known")] = UNSET
    extra: Annotated[OptJson, _meta("unknown and custom keys")] = UNSET


class Evaluator(Part):
    """Who judged."""

    kind: Annotated[Union[Literal["human", "llm", "code"], None, UnsetType], _meta("human, llm or code")] = UNSET
    name: Annotated[OptName, _meta("name")] = UNSET
    version: Annotated[OptName, _meta("version")] = UNSET
    model: Annotated[OptName, _meta("judge model")] = UNSET


class Eval(Event, tag="eval"):
    """Result of a scorer for a call, a trace or a response."""

    name: Annotated[Required, _meta("metric", otel="gen_ai.evaluation.name")]
    app: Annotated[OptName, _meta("emitting application")] = UNSET
    env: Annotated[OptName, _meta("prod, staging, ...", arrow="dict")] = UNSET
    call_id: Annotated[OptUuid, _meta("the judged call")] = UNSET
    trace_id: Annotated[OptIdent, _meta("the judged trace")] = UNSET
    response_id: Annotated[OptName, _meta("the judged answer")] = UNSET
    score: Annotated[OptFloat, _meta("finite score", otel="gen_ai.evaluation.score.value")] = UNSET
    label: Annotated[OptName, _meta("low cardinality", otel="gen_ai.evaluation.score.label")] = UNSET
    explanation: Annotated[OptText, _meta("redacted like content", text=True)] = UNSET
    evaluator: Annotated[Union[Evaluator, None, UnsetType], _meta("who judged")] = UNSET
    dataset: Annotated[OptName, _meta("golden set")] = UNSET
    run_id: Annotated[OptName, _meta("eval run")] = UNSET
    experiment: Annotated[OptName, _meta("experiment")] = UNSET
    variant: Annotated[OptName, _meta("variant")] = UNSET
    error: Annotated[OptText, _meta("the judge failed", lake="error", text=True)] = UNSET
    extra: Annotated[OptJson, _meta("unknown and custom keys")] = UNSET


EVENT_TYPES = (Call, Feedback, Eval)
AnyEvent = Union[Call, Feedback, Eval]
FEEDBACK_TARGETS = ("call_id", "trace_id", "session_id", "response_id")
EVAL_TARGETS = ("call_id", "trace_id", "response_id")
EVAL_RESULTS = ("score", "label", "error")
