"""Feedback on production calls, as data to train a model on. Pure.

Three forms, those of TRL's dataset formats (https://huggingface.co/docs/trl/dataset_formats): pairs of a chosen and a
rejected answer, single answers with a label, and conversations that end with an answer a person wrote. Cases that a
golden set holds out are in none of them, nor near duplicates of them: a model must not be trained on its test cases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobs.golden.cases import chat_text, redactor
from jobs.golden.export import messages_of
from jobs.golden.similar import SimilarityIndex, read
from jobs.golden.splits import held_out

Row = dict[str, Any]
SIMILARITY = 0.8
"""Jaccard index from which a call is a near duplicate of a held-out case."""


class Form(StrEnum):
    """What a line of the file is."""

    PREFERENCES = "preferences"
    """The answer that a user wrote over the one that was given; and of one conversation a liked answer over a disliked
    one."""
    CHAT = "chat"
    """A conversation that ends with the answer that a user wrote, or liked."""
    THUMBS = "thumbs"
    """An answer and whether it was liked: unpaired preferences, as KTO takes them."""


@dataclass(frozen=True)
class Labels:
    """Lines of a file, and what was left out."""

    lines: tuple[Row, ...]
    calls: int
    """Labelled calls."""
    held_out: int
    """Of them, left out since a golden set holds such a case out."""


def labels(calls: Sequence[Mapping[str, Any]], cases: Iterable[Mapping[str, Any]], form: Form) -> Labels:
    """Return the lines of ``form``.

    Args:
        calls: rows of ``warehouse.golden.labels.labelled``.
        cases: of golden sets: case_id, call_id, messages, input_text.
        form: of the lines.
    """
    out = [case for case in cases if held_out(case["case_id"])]
    known = SimilarityIndex(SIMILARITY)
    for case in out:
        known.add(case["case_id"], read(chat_text(dict(case))))
    ids = {case["call_id"] for case in out}
    redacted = (_redacted(call) for call in calls)
    allowed = [call for call in redacted if call["call_id"] not in ids and not known.like(read(chat_text(call)))]
    lines = {Form.PREFERENCES: _preferences, Form.CHAT: _chats, Form.THUMBS: _thumbs}[form](allowed)
    return Labels(tuple(lines), len(calls), len(calls) - len(allowed))


def _redacted(call: Mapping[str, Any]) -> Row:
    """Return the call with redacted texts, in any content mode of the app."""
    text = redactor(call, call["edited"])
    turns = [{**turn, "text": text(turn["text"])} for turn in call["messages"] or ()]
    texts = {name: text(call[name]) for name in ("system_text", "input_text", "output_text", "edited")}
    return {**call, **texts, "messages": turns}


def _answer(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def _preferences(calls: Iterable[Row]) -> Iterator[Row]:
    asked: defaultdict[str, tuple[list[Row], list[Row]]] = defaultdict(lambda: ([], []))
    for call in calls:
        prompt = messages_of(call)
        if call["edited"] and call["output_text"] and call["edited"] != call["output_text"]:
            yield {"prompt": prompt, "chosen": _answer(call["edited"]), "rejected": _answer(call["output_text"])}
        elif call["thumb"] and call["output_text"]:
            asked[repr(prompt)][call["thumb"] < 0].append(call)
    for liked, disliked in asked.values():
        for good, bad in zip(liked, disliked, strict=False):
            if good["output_text"] != bad["output_text"]:
                chosen, rejected = _answer(good["output_text"]), _answer(bad["output_text"])
                yield {"prompt": messages_of(good), "chosen": chosen, "rejected": rejected}


def _chats(calls: Iterable[Row]) -> Iterator[Row]:
    for call in calls:
        wanted = call["edited"] or (call["output_text"] if (call["thumb"] or 0) > 0 else None)
        if wanted:
            yield {"messages": [*messages_of(call), *_answer(wanted)]}


def _thumbs(calls: Iterable[Row]) -> Iterator[Row]:
    for call in calls:
        if call["thumb"] and call["output_text"]:
            yield {
                "prompt": messages_of(call),
                "completion": _answer(call["output_text"]),
                "label": call["thumb"] > 0,
            }
