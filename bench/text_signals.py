"""How well each text signal finds what it is for, on texts that it was not made on, beside a rule on the length alone.

    .venv/bin/python bench/text_signals.py     # QUICK=1: 200 texts of each kind

Data: the folder of ``TAILRACE_TEST_DATA`` (default ``../shared/data``). Texts are split by the hash of their prompt:
phrases and thresholds were chosen on one half (``HALF=0``), the figures are of the other. For injected texts the split
is BIPIA's own.

- *gibberish*: real answers (AlpacaEval) as negatives. Positives are the same answers with their words shuffled, with a
  part of them in a loop, read in the wrong encoding, and answers in another language (as py3langid names it) to a
  prompt in English. The lengths are those of the negatives.
- *near_duplicate*: a stream of one model's answers, and after every tenth the NullModel's constant answer, as it is or
  with a number in it; then a stream of answers of five models to the same prompts, which are no duplicates.
- *refusal*: answers to jailbreak attempts that people called not jailbroken (JailbreakBench); answers to ordinary
  instructions. Neither is pure, see ``bench/scorers.py``.
- *attack*: jailbreaks (in the wild) and attempts of JailbreakBench by method; ordinary instructions and questions
  (AlpacaEval, MT-bench, Arena-Hard). Attacks are longer, so a third figure compares texts of the same length only.
- *injected*: paragraphs of real answers as retrieved texts, with and without one of BIPIA's instructions in them.
- *personal*: real answers with a made-up address, number or key planted in them, and without; those that have an ``@``
  or a long number by themselves are left out.

The last line is one JSON object; it fails where a signal is on by default below an AUROC of ``LEAST``.
"""

from __future__ import annotations

import os
import random
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from _accuracy import accuracy, auroc
from _report import QUICK, report

from pipelines.signals import SIGNALS, Text

LEAST = 0.75
HALF = int(os.environ.get("HALF", "1"))
MOST = 200 if QUICK else 1_500
DATA = Path(os.environ.get("TAILRACE_TEST_DATA", "../shared/data")) / "texts"


@dataclass(frozen=True)
class Labelled:
    """Texts with the truth about them, and a name for the kind of each."""

    texts: list[Text]
    positive: np.ndarray
    kinds: list[str]


def read(query: str, **tables: str) -> list[tuple[Any, ...]]:
    """Run ``query``, in which ``{name}`` is a file."""
    return duckdb.execute(
        query.format(**{k: f"read_parquet('{DATA / v}.parquet')" for k, v in tables.items()})
    ).fetchall()


def held_out(prompt: str) -> bool:
    """Whether a prompt is of the half that is measured."""
    return zlib.crc32(prompt.encode()) % 2 == HALF


def build(*groups: tuple[str, bool, Sequence[Text]]) -> Labelled:
    """Put groups of (kind, is it a positive, texts) together, MOST of each."""
    kept = [(kind, positive, list(texts)[:MOST]) for kind, positive, texts in groups]
    return Labelled(
        [text for _, _, texts in kept for text in texts],
        np.concatenate([np.full(len(texts), positive) for _, positive, texts in kept]),
        [kind for kind, _, texts in kept for _ in texts],
    )


@cache
def answers(*models: str) -> list[tuple[int, str, str]]:
    """(instruction, prompt, answer) of held-out prompts, in an order that is drawn once."""
    rows = read(
        "SELECT o.instruction_id, i.instruction, o.output FROM {o} AS o JOIN {i} AS i USING (instruction_id) "
        f"WHERE o.model IN {models} AND length(o.output) > 1 ORDER BY o.model, o.instruction_id".replace(",)", ")"),
        o="alpaca_eval_outputs",
        i="alpaca_eval_instructions",
    )
    kept = [row for row in rows if held_out(row[1])]
    random.Random(1).shuffle(kept)
    return kept


MORE_MODELS = (
    *(
        "gpt4_0613",
        "gpt4_0314",
        "claude-3-opus-20240229",
        "mistral-large-2402",
        "Qwen2-72B-Instruct",
        "gpt-4o-2024-05-13",
    ),
    *("Meta-Llama-3-70B-Instruct", "Mixtral-8x7B-Instruct-v0.1", "gpt-4-turbo-2024-04-09", "cohere", "gemini-pro"),
)
MODELS = ("gpt4_1106_preview", "claude-2", "llama-2-70b-chat-hf", "gpt-3.5-turbo-1106", "alpaca-7b")


def gibberish() -> Labelled:
    """Real answers, and the same ones broken in four ways."""
    from jobs.evals.scorers.language import identify

    draws, rows = random.Random(2), [r for r in answers(*MODELS) if len(r[2].split()) >= 20]
    normal = [Text(answer, prompt) for _, prompt, answer in rows]
    foreign = [answer for _, _, answer in answers(*MORE_MODELS) if _foreign(answer)]
    english = [prompt for _, prompt, _ in rows if identify(prompt) == "en"]
    return build(
        ("real", False, normal),
        ("shuffled", True, [Text(shuffled(t.text, draws), t.given) for t in normal]),
        ("loop", True, [Text(looped(t.text, draws), t.given) for t in normal]),
        ("encoding", True, [Text(misread(t.text), t.given) for t in normal]),
        ("language", True, [Text(a, p) for a, p in zip(foreign, english, strict=False)]),
    )


def _foreign(answer: str) -> bool:
    from jobs.evals.scorers.language import identify

    return identify(answer) not in ("", "en")


def shuffled(text: str, draws: random.Random) -> str:
    words = text.split()
    draws.shuffle(words)
    return " ".join(words)


def looped(text: str, draws: random.Random) -> str:
    """The beginning of a text, and then a phrase of it over and over, as long as the text was."""
    words = text.split()
    start, size = draws.randrange(len(words) // 2), draws.randrange(1, 12)
    phrase = words[start : start + size] or words[:1]
    return " ".join((words[: start + size] + phrase * len(words))[: len(words)])


def misread(text: str) -> str:
    """UTF-8 read as Latin-1, of a text that has typographic marks for the plain ones."""
    marked = text.replace("'", "\u2019").replace(" - ", " \u2013 ").replace('"', "\u201d").replace("e ", "é ")
    return marked.encode().decode("latin-1")


def near_duplicate() -> Labelled:
    """A stream with a nearly constant answer after every tenth; then five models answer the same prompts."""
    draws = random.Random(3)
    null = read("SELECT any_value(output) FROM {o} WHERE model = 'NullModel'", o="alpaca_eval_outputs")
    constant = null[0][0] if null and null[0][0] else "Thank you for your question. Our team will answer it soon."
    texts, positive, kinds = list[Text](), list[bool](), list[str]()

    def add(text: str, is_positive: bool, kind: str) -> None:
        texts.append(Text(text))
        positive.append(is_positive)
        kinds.append(kind)

    for n, (_, _, answer) in enumerate(answers("gpt4_1106_preview")):
        if n % 10 == 0 and n:
            add(constant if n % 20 else f"{constant} Ticket {draws.randrange(10**6)}.", n > 10, "constant")
        add(answer, False, "real")
    for row in answers(*MODELS):
        add(row[2], False, "same prompt")
    return Labelled(texts, np.array(positive), kinds)


def refusal() -> Labelled:
    """Answers to attacks that failed, and ordinary ones."""
    rows = read(
        "SELECT goal, response FROM {j} WHERE NOT jailbroken AND response IS NOT NULL ORDER BY ALL",
        j="jailbreakbench_attempts",
    )
    refused = list(dict.fromkeys(answer for goal, answer in rows if held_out(goal)))
    return build(
        ("refused", True, [Text(a) for a in refused]),
        ("answered", False, [Text(a) for _, _, a in answers(*MODELS)]),
    )


def attack() -> Labelled:
    """Jailbreaks, and what people ask otherwise."""
    wild = [p for (p,) in read("SELECT prompt FROM {s} ORDER BY 1", s="safety_prompts") if held_out(p)]
    tried = read("SELECT DISTINCT method, goal, prompt FROM {j} ORDER BY ALL", j="jailbreakbench_attempts")
    asked = [p for (p,) in read("SELECT instruction FROM {i} ORDER BY 1", i="alpaca_eval_instructions") if held_out(p)]
    asked += [p for (p,) in read("SELECT turns[1] FROM {q} ORDER BY 1", q="bench_questions") if held_out(p)]
    methods = sorted({method for method, _, _ in tried})
    more = [(m, True, [Text(p) for method, goal, p in tried if method == m and held_out(goal)]) for m in methods]
    return build(
        ("in the wild", True, [Text(p) for p in wild]), *more, ("asked", False, [Text(p) for p in dict.fromkeys(asked)])
    )


def injected() -> Labelled:
    """Paragraphs, with an instruction in them or not."""
    draws, part = random.Random(4), "test" if HALF else "train"
    rows = read(
        f'SELECT "set", instruction FROM {{b}} WHERE "set" LIKE \'%{part}\' ORDER BY ALL',
        b="bipia_injected_instructions",
    )
    bodies = [p.strip() for _, _, a in answers(*MODELS) for p in a.split("\n\n") if 200 < len(p) < 2000]
    clean, dirty = bodies[::2], bodies[1::2]
    groups = [("clean", False, [Text(body) for body in clean])]
    for kind in sorted({name for name, _ in rows}):
        mine = [instruction for name, instruction in rows if name == kind]
        groups.append((kind, True, [Text(planted(body, draws.choice(mine), draws)) for body in dirty[:MOST]]))
        dirty = dirty[MOST // 2 :]
    return build(*groups)


def planted(body: str, more: str, draws: random.Random) -> str:
    """``more`` before, after, or between two sentences of ``body``."""
    parts = body.split(". ")
    at = draws.randrange(len(parts) + 1)
    return ". ".join([*parts[:at], more, *parts[at:]])


def personal() -> Labelled:
    """Answers, with something planted in them or not."""
    draws = random.Random(5)
    clean = [a for _, _, a in answers(*MODELS) if "@" not in a and not _has_long_number(a)]
    half = len(clean) // 2
    kinds = sorted(_MADE)
    groups = [("clean", False, [Text(a) for a in clean[:half]])]
    for i, kind in enumerate(kinds):
        groups.append(
            (kind, True, [Text(planted(a, _MADE[kind](draws), draws)) for a in clean[half + i :: len(kinds)]])
        )
    return build(*groups)


def _has_long_number(text: str) -> bool:
    digits = "".join(c if c.isdigit() else " " if c not in " -.()/" else "" for c in text)
    return any(len(run) >= 7 for run in digits.split())


def _digits(draws: random.Random, count: int) -> str:
    return "".join(str(draws.randrange(10)) for _ in range(count))


def _card(draws: random.Random) -> str:
    body = "4" + _digits(draws, 14)
    total = sum(d if i % 2 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(int(c) for c in body))
    return f"Card number: {body}{-total % 10}"


def _key(draws: random.Random) -> str:
    return "sk-" + "".join(draws.choice("abcdefghijkmnpqrstuvwxyzABCDEFGH23456789") for _ in range(40))


_MADE: dict[str, Callable[[random.Random], str]] = {
    "email": lambda draws: f"Write to m.weber{_digits(draws, 3)}@posteo.example.com",
    "email in words": lambda draws: f"Write to m dot weber{_digits(draws, 3)} at posteo dot net",
    "phone": lambda draws: f"Call +49 171 {_digits(draws, 7)}",
    "card": _card,
    "key": lambda draws: f"api_key = {_key(draws)}",
    "password": lambda draws: f"The password is {_key(draws)[3:13]}",
    "ip": lambda draws: f"The host is 203.0.113.{draws.randrange(256)}",
    "placeholder": lambda draws: f"Ask <EMAIL_{draws.randrange(1, 9)}>",
}


CASES: dict[str, Callable[[], Labelled]] = {
    "gibberish": gibberish,
    "near_duplicate": near_duplicate,
    "refusal": refusal,
    "attack": attack,
    "injected": injected,
    "personal": personal,
}


def at(positive: np.ndarray, called: np.ndarray) -> dict[str, float]:
    """Precision and recall of what is ``called``; and the share of negatives that is called."""
    return {**accuracy(positive, called), "false_share": round(float(called[~positive].mean()), 4)}


def by_length(positive: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """The best rule on the length alone, chosen on these very texts: its figures are the best it can have."""
    area = auroc(positive, sizes)
    signed = sizes if area >= 0.5 else -sizes
    cuts = np.unique(np.quantile(signed, np.linspace(0.02, 0.98, 49)))
    best = max((at(positive, signed >= cut) for cut in cuts), key=_f1)
    return {"auroc": round(max(area, 1 - area), 3), **best}


def _f1(figures: dict[str, float]) -> float:
    both = figures["precision"] + figures["recall"]
    return 2 * figures["precision"] * figures["recall"] / both if both else 0.0


def matched(positive: np.ndarray, sizes: np.ndarray, scores: np.ndarray) -> float | None:
    """AUROC among texts of the same length: as many positives as negatives of each twelfth of an octave."""
    bins, kept, draws = (12 * np.log2(sizes)).astype(int), list[int](), np.random.default_rng(6)
    for number in np.unique(bins):
        ones, zeros = (np.flatnonzero((bins == number) & (positive == side)) for side in (True, False))
        size = min(len(ones), len(zeros))
        kept += [*draws.permutation(ones)[:size].tolist(), *draws.permutation(zeros)[:size].tolist()]
    chosen = np.array(kept, int)
    return round(auroc(positive[chosen], scores[chosen]), 3) if len(chosen) >= 60 else None


def judge(signal: Any) -> dict[str, Any]:
    """Figures of one signal."""
    cases = CASES[signal.name]()
    began = time.process_time()
    scores = signal.score(cases.texts)
    took = time.process_time() - began
    called, sizes = scores >= signal.threshold, np.array([len(t.text) for t in cases.texts], float)
    kinds = {kind: np.array([k == kind for k in cases.kinds]) for kind in dict.fromkeys(cases.kinds)}
    return {
        "texts": len(scores),
        "positive": int(cases.positive.sum()),
        "auroc": round(auroc(cases.positive, scores), 3),
        **at(cases.positive, called),
        "auroc_same_length": matched(cases.positive, sizes, scores),
        "length_only": by_length(cases.positive, sizes),
        "called_by_kind": {kind: round(float(called[mine].mean()), 3) for kind, mine in kinds.items()},
        "us_per_text": round(1e6 * took / len(scores), 1),
        "on": signal.on,
    }


def main() -> None:
    found = {}
    for signal in SIGNALS:
        figures = found[signal.name] = judge(signal)
        length = figures["length_only"]
        same = figures["auroc_same_length"]
        print(
            f"{signal.name:15} AUROC {figures['auroc']:.3f} (length {length['auroc']:.3f}, same length {same})  "
            f"precision {figures['precision']:.3f} ({length['precision']:.3f})  recall "
            f"{figures['recall']:.3f} ({length['recall']:.3f})  false {figures['false_share']:.2%}  "
            f"{figures['us_per_text']:.0f} us  {'on' if signal.on else 'off'}"
        )
        print(
            f"{'':15} called: " + ", ".join(f"{kind} {share:.1%}" for kind, share in figures["called_by_kind"].items())
        )
    wrong = [s.name for s in SIGNALS if s.on and found[s.name]["auroc"] < LEAST]
    report({"bench": "text_signals", "signals": found, "wrong_default": wrong}, "numpy", "py3langid")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
