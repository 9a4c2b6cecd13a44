"""The report: all that was compared and found, as one JSON document that its SHA-256 names. Pure."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from jobs.gate import checks as all_checks
from jobs.gate.check import shown
from jobs.gate.golden_file import GoldenCases
from jobs.gate.measured import Agreement, Found, ScorerValues
from jobs.gate.results import Results, measured
from jobs.gate.settings import GateInputError, GateSettings
from jobs.gate.targets import digest
from jobs.gate.verdict import Verdict

FORMAT = 1
WORST = 20
"""Cases that became worse, in a report."""
_DIFF_LINES, _LINE_CHARS = 60, 400


@dataclass(frozen=True)
class OpenAlert:
    """An alert of the lake that is not over."""

    id: str
    detector: str
    severity: str
    title: str


@dataclass(frozen=True)
class Inputs:
    """What a report is made of."""

    golden: GoldenCases
    candidate: Results
    baseline: Results
    samples: int
    kinds: Mapping[str, str]
    """Scorer -> code, embedding, llm or human."""
    agreement: Mapping[str, Agreement]
    """Judge -> how well it agrees with people."""
    alerts: Sequence[OpenAlert] | None
    """Open critical alerts of quality; None: there was no lake to ask."""
    at: int
    """µs UTC."""


def make(inputs: Inputs, settings: GateSettings) -> dict[str, Any]:
    """Compare both sides and return the report.

    Raises:
        GateInputError: the sides were scored by different versions of a scorer.
    """
    same_scorers(inputs.candidate, inputs.baseline)
    found = all_checks.build(_found(inputs), settings)
    verdict, reasons = all_checks.overall(found)
    verdict, reasons = _held(verdict, reasons, inputs, settings)
    at = datetime.fromtimestamp(inputs.at / 1e6, UTC)
    body: dict[str, Any] = {
        "format": FORMAT,
        "made_at": at.isoformat(timespec="seconds"),
        "verdict": verdict.value,
        "reasons": reasons,
        "golden": {
            "name": inputs.golden.name,
            "content_hash": inputs.golden.content_hash,
            "cases": len(inputs.golden.cases),
            "problems": list(inputs.golden.problems),
        },
        "samples": inputs.samples,
        "warnings": [*all_checks.informing(found), *_warnings(inputs)],
        "checks": [{**_finite(asdict(check)), "text": shown(check)} for check in found],
        "alerts": None if inputs.alerts is None else [asdict(a) for a in inputs.alerts],
        "waivers": [{**asdict(w), "date": w.date.isoformat()} for w in settings.waivers],
        "worse": worse(inputs),
        "worse_cases": len({case for _, case, *_ in _falls(inputs)}),
        "candidate": msgspec.to_builtins(inputs.candidate),
        "baseline": msgspec.to_builtins(inputs.baseline),
    }
    return {**body, "sha256": digest(body)}


def check_digest(report: Mapping[str, Any], where: str) -> str:
    """Return the SHA-256 of a report.

    Raises:
        GateInputError: it is no report, or was changed after it was written.
    """
    stated = report.get("sha256")
    if report.get("format") != FORMAT or not isinstance(stated, str):
        raise GateInputError(where, "it is no report of `tailrace gate`", "name the report.json that a gate wrote")
    if digest({name: value for name, value in report.items() if name != "sha256"}) != stated:
        raise GateInputError(where, "it was changed after it was written", "run the gate again")
    return stated


def baseline_of(text: bytes, where: str, golden: GoldenCases) -> Results:
    """Return the candidate of an earlier report, to be compared with: nothing is asked or paid again.

    Raises:
        GateInputError: it is no report, was changed, or judged another version of the golden set.
    """
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GateInputError(where, "no JSON", "name the report.json that a gate wrote") from error
    if not isinstance(read, dict):
        raise GateInputError(where, "no report", "name the report.json that a gate wrote")
    check_digest(read, where)
    if read["golden"]["content_hash"] != golden.content_hash:
        problem = f"it judged golden set {read['golden']['name']}, whose cases differ from those of {golden.name}"
        raise GateInputError(where, problem, "name the same version, or compare with a baseline.yaml")
    return msgspec.convert(read["candidate"], Results)


def same_scorers(candidate: Results, baseline: Results) -> None:
    """Refuse to compare scores of two versions of a scorer or judge.

    Raises:
        GateInputError: they differ.
    """
    for name in sorted(set(candidate.versions) & set(baseline.versions)):
        new, old = candidate.versions[name], baseline.versions[name]
        if new != old:
            problem = f"scorer {name} has version {new}, and the baseline was scored by version {old}"
            raise GateInputError("baseline", problem, "score both with the same: compare with a baseline.yaml")


def worse(inputs: Inputs) -> list[dict[str, Any]]:
    """Return the cases whose mean score fell most, with a diff of the answers."""
    cases = {case.case_id: case for case in inputs.golden.cases}
    chosen: dict[str, dict[str, Any]] = {}
    for _, case, scorer, before_mean, after_mean in sorted(_falls(inputs)):
        if case not in chosen and len(chosen) == WORST:
            continue
        row = chosen.setdefault(case, {"case_id": case, "input": None, "scores": [], "diff": []})
        row["scores"].append({"scorer": scorer, "baseline": before_mean, "candidate": after_mean})
    for case, row in chosen.items():
        if inputs.candidate.texts:
            row["input"] = cases[case].input_text[:2_000]
            row["diff"] = diff(inputs.baseline.texts.get(case, ()), inputs.candidate.texts.get(case, ()))
    return list(chosen.values())


def _falls(inputs: Inputs) -> list[tuple[float, str, str, float, float]]:
    """Return (change, case, scorer, mean of the baseline, mean of the candidate) of each mean that fell."""
    falls: list[tuple[float, str, str, float, float]] = []
    for scorer, scores in inputs.candidate.scores.items():
        for case, values in scores.items():
            before = inputs.baseline.scores.get(scorer, {}).get(case)
            if before and values and (fall := _mean(values) - _mean(before)) < 0:
                falls.append((fall, case, scorer, _mean(before), _mean(values)))
    return falls


def diff(baseline: Sequence[str | None], candidate: Sequence[str | None]) -> list[str]:
    """Return the lines of the first answers that differ: ``-`` baseline, ``+`` candidate."""
    old, new = (next((text for text in texts if text is not None), None) for texts in (baseline, candidate))
    before, after = (("(no answer)" if text is None else text).splitlines() for text in (old, new))
    lines = list(difflib.unified_diff(before, after, lineterm="", n=1))[2:]  # the first two name files
    lines = [line for line in lines if not line.startswith("@@")]
    cut = [line if len(line) <= _LINE_CHARS else line[:_LINE_CHARS] + " …" for line in lines[:_DIFF_LINES]]
    return [*cut, f"… {len(lines) - _DIFF_LINES} more lines"] if len(lines) > _DIFF_LINES else cut


def _found(inputs: Inputs) -> Found:
    new, old = inputs.candidate, inputs.baseline
    scorers = [
        ScorerValues(
            name,
            inputs.kinds.get(name, "code"),
            new.versions[name],
            new.scores[name],
            old.scores.get(name, {}),
            new.scorer_errors.get(name, 0) + old.scorer_errors.get(name, 0),
            inputs.agreement.get(name),
        )
        for name in new.scores
    ]
    answered, cost, latency, ttft = (
        measured(new, old, name) for name in ("answered", "cost_usd", "latency_ms", "ttft_ms")
    )
    return Found(inputs.golden.cases, inputs.samples, scorers, answered, cost, latency, ttft)


def _held(verdict: Verdict, reasons: list[str], inputs: Inputs, settings: GateSettings) -> tuple[Verdict, list[str]]:
    """Return the verdict with what else blocks: open critical alerts of quality, lines of the set that are no case."""
    today = datetime.fromtimestamp(inputs.at / 1e6, UTC).date()
    blocked = [a for a in inputs.alerts or () if settings.waiver(a.id, today) is None]
    if blocked:
        blocking = [f"open critical quality alert {a.id}: {a.title}" for a in blocked]
        return Verdict.REGRESS, [*blocking, *(reasons if verdict is Verdict.REGRESS else ())]
    if all(case.shadow for case in inputs.golden.cases):
        why = "nobody reviewed a case of this set, and such cases block nothing: `tailrace golden review`"
        return Verdict.UNDECIDED, [f"{why} accepts them, --unreviewed lets them count"]
    if inputs.golden.problems and verdict is Verdict.PASS:
        return Verdict.UNDECIDED, [f"{len(inputs.golden.problems)} lines of the golden set are no case: correct them"]
    return verdict, reasons


def _warnings(inputs: Inputs) -> list[str]:
    found = list(inputs.golden.warnings)
    if shadow := sum(case.shadow for case in inputs.golden.cases):
        found.append(f"{shadow} of {len(inputs.golden.cases)} cases are not reviewed: they are shown and block nothing")
    for side, results in (("candidate", inputs.candidate), ("baseline", inputs.baseline)):
        if results.target.get("template") and (as_recorded := results.cases - results.rendered):
            found.append(
                f"{as_recorded} of {results.cases} cases have no variables for the template of the {side}: for these "
                "only model and parameters are compared"
            )
        found += [f"{side}: {count} samples: {error}" for error, count in list(results.failures.items())[:5]]
    if inputs.alerts is None:
        found.append("alerts were not looked at: there is no lake here")
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _finite(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``row`` with null for NaN: JSON has none."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def without_texts(inputs: Inputs) -> Inputs:
    """Return ``inputs`` without a word of prompts and answers."""
    sides = [msgspec.structs.replace(side, texts={}) for side in (inputs.candidate, inputs.baseline)]
    return replace(inputs, candidate=sides[0], baseline=sides[1])
