"""Silent swaps of the answering model: the test of styles beside the embedding tests of alibi-detect and Evidently.

A stream is 402 answers of one model to AlpacaEval's instructions, the reference, and then 300 answers to other ones: of
another model (a swap of S1), or of the same (nothing has changed). The other libraries judge windows of 100 embeddings
of all-MiniLM-L6-v2, each with the settings that it comes with; Tailrace judges answer by answer and is counted by the
window in which it alerts. Printed: in how many streams each sees a drift, with Wilson intervals, and of what is seen in
swaps how much is luck: the share that it sees where nothing has changed.

    python bench/drift_peers.py [--seed N]     # QUICK=1: one stream a pair instead of four

The libraries of ``bench/peers.txt`` are installed into .cache/peers. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import _other_libraries as other_libraries
import numpy as np
from _incidents_answers import SWAPS, pool
from _incidents_score import wilson
from _incidents_texts import Kept
from _incidents_worlds import DATA
from _report import QUICK, REPO, report

from pipelines.drift.points import Point, join
from pipelines.drift.strata import Stratum
from pipelines.drift.style_bets import StyleConfig
from pipelines.drift.style_level import StyleLevel
from pipelines.meter.sample import TEXT_CHARS
from schemas.rollups import Sample

REFERENCE, AFTER, WINDOW = 402, 300, 100
STREAMS = 1 if QUICK else 4
ALARM = 5.0
"""Power of ten of the evidence."""
CACHE = REPO / ".cache"


def main() -> None:
    """Print a table and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    if not DATA.is_dir():
        raise SystemExit(f"no data in {DATA}: set TAILRACE_TEST_DATA")
    python = other_libraries.python()
    figures = {grade: _grade(grade, seed, python) for grade in SWAPS}
    report({"window": WINDOW, "grades": figures, "all": _sum(figures)}, "numpy")


Counts = dict[str, dict[str, int]]
"""Test -> swapped, seen, steady, false."""


def _grade(grade: str, seed: int, python: Path) -> Counts:
    """Judge the streams of one grade; print and return what each test sees."""
    streams: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {"seen": ([], []), "false": ([], [])}
    mine: dict[str, list[int]] = {"seen": [], "false": []}
    for pair in SWAPS[grade]:
        _, (before, after) = pool(*pair)
        kept = Kept(_folder() / f"answers-{'-'.join(pair)}", [text[:TEXT_CHARS] for text in (*before, *after)])
        for number in range(STREAMS):
            order = np.random.default_rng([seed, number, *pair[0].encode()]).permutation(len(before))
            first, second = order[:REFERENCE].tolist(), order[REFERENCE : REFERENCE + AFTER].tolist()
            reference = [before[i] for i in first]
            for kind, answers in (("seen", after), ("false", before)):
                later = [answers[i] for i in second]
                mine[kind].append(_window_of(reference, later))
                for target, texts in zip(streams[kind], (reference, later), strict=True):
                    target.append(kept.encode([text[:TEXT_CHARS] for text in texts]))
    found = {"Tailrace": mine}
    for kind, (references, later) in streams.items():
        for name, firsts in _others(python, references, later).items():
            found.setdefault(name, {"seen": [], "false": []})[kind] = firsts
    counts = {
        name: {
            "swapped": len(kinds["seen"]),
            "seen": sum(first > 0 for first in kinds["seen"]),
            "in_first_window": sum(first == 1 for first in kinds["seen"]),
            "steady": len(kinds["false"]),
            "false": sum(first > 0 for first in kinds["false"]),
        }
        for name, kinds in found.items()
    }
    _show(grade, counts)
    return counts


def _window_of(reference: Sequence[str], later: Sequence[str]) -> int:
    """Return the window in which the test of styles alerts, 0 for none."""
    level = StyleLevel(StyleConfig(), [Stratum("", _points(reference))])
    for i, point in enumerate(_points(later)):
        level.take(point, "", i)
        if level.evidence >= ALARM:
            return i // WINDOW + 1
    return 0


def _points(answers: Sequence[str]) -> list[Point]:
    samples = [Sample(f"c{i}", "app", "output", text[:TEXT_CHARS], i, 0, i) for i, text in enumerate(answers)]
    return join(samples, [0] * len(samples), np.zeros((0, 0), np.int8), np.zeros(0, np.float32))


def _others(python: Path, references: list[np.ndarray], later: list[np.ndarray]) -> dict[str, list[int]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "streams.npz"
        np.savez(file, reference=np.stack(references), after=np.stack(later), window=WINDOW)
        command = [python, REPO / "bench" / "_drift_peers.py", file]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, list[int]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _show(grade: str, counts: Counts) -> None:
    print(f"\n{grade:32}{'seen in swaps':>24}{'seen where nothing changed':>30}{'above luck':>12}")
    for name, n in counts.items():
        seen, false = _share(n["seen"], n["swapped"]), _share(n["false"], n["steady"])
        above = n["seen"] / n["swapped"] - n["false"] / n["steady"]
        print(f"  {name:30}{seen:>24}{false:>30}{above:>12.2f}", flush=True)


def _share(count: int, of: int) -> str:
    low, high = wilson(count, of)
    return f"{count} of {of} ({low:.2f} to {high:.2f})"


def _sum(figures: dict[str, Counts]) -> Counts:
    """Add the grades up."""
    names = next(iter(figures.values()))
    total = {name: {key: sum(grade[name][key] for grade in figures.values()) for key in names[name]} for name in names}
    _show("all grades", total)
    return total


def _folder() -> Path:
    folder = CACHE / "incidents"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
