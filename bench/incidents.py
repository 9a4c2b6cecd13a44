"""The scoreboard: what is found, how soon, under what name, and how often the alarm is false, on real traffic.

Incidents whose start is known are put into streams made of the real traces (``TAILRACE_TEST_DATA``, by default
``../shared/data``); seeds, moments, sizes and the affected slice are drawn at random. Every stream goes through the
code of ``tailrace backtest --events``: the events are parsed, priced, rolled up and judged by the functions of the
stages. A quiet stream of up to two days is judged once, and every incident goes on from a copy of the state at its
moment. Beside it, on the same rollups: three standard deviations (N1) and twice the mean (N2), per series and over
the app alone, and river's ADWIN and Page-Hinkley (bench/peers.txt, installed at the
first run). How to read the tables: docs/concepts/scoreboard.md.

    python bench/incidents.py [--seed N] [--only S6,Q1] [--results FILE] [--report] [--set surge.evidence=9]

Results are kept as JSON lines; a run that was interrupted goes on where it ended. QUICK=1 draws less. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _incidents_worlds import World
from _report import QUICK, REPO, report

sys.path.insert(0, str(REPO))

import _incidents_answers as answers
import _incidents_labels as job
import _incidents_worlds as worlds
import _other_libraries as other_libraries
from _incidents_baselines import NAMES
from _incidents_calls import DAY, HOUR, MINUTE, lines
from _incidents_run import Stream, moments, quiet, run_world
from _incidents_scenarios import NOT_WATCHED, SCENARIOS
from _incidents_score import figures, show, total
from _incidents_texts import Kept, Texts, other_half, scenarios, with_prompts

from pipelines.detect.detectors import configure
from pipelines.detect.judge import Judge
from pipelines.signals import SIGNALS, chosen

Result = dict[str, Any]
Unit = tuple[str, Callable[[], Iterable[Result]]]
WORLDS, MOMENTS = (2, 4) if QUICK else (6, 8)
WARM_UP_DAYS = 1.0 if QUICK else 2.0


def _whole_of(name: str, make: Callable[[], World], seed: int) -> list[Result]:
    return [whole(name, make(), seed)]


def units(seed: int, only: tuple[str, ...]) -> Iterator[Unit]:
    """Yield (name, what gives its results): each is computed and kept by itself."""
    yield from drawn(seed, 0, only)
    for name, make in quiets(seed).items():
        if _is_wanted(name, only):
            yield name, partial(_whole_of, name, make, seed)
    if _is_wanted("Q5 ", only):
        yield "Q5 other prompts", lambda: [other_prompts(seed)]
        yield "Q5 other answers", lambda: [other_instructions(seed)]
    for number in range(1, WORLDS):
        yield from drawn(seed, number, only)


def drawn(seed: int, number: int, only: tuple[str, ...]) -> Iterator[Unit]:
    """Yield the units with incidents of one world of each kind."""
    chosen = [s for s in SCENARIOS if _is_wanted(s.name, only)]
    # what lasts for hours is played once a world, in the quick form once
    large = [s for s in chosen if s.world == "m-large" and (s.lasts < 2 * HOUR or not (QUICK and number))]
    if large:
        yield f"world {number}", lambda: incidents_in_world(seed + number, large)
    if cached := [s for s in chosen if s.world == "mooncake"]:
        yield f"mooncake {number}", lambda: incidents_in_mooncake(seed + number, cached)
    if timed := [s for s in chosen if s.world == "agents"]:
        yield f"agents {number}", lambda: incidents_in_world(seed + number, timed, worlds.agents)
    if _is_wanted("S2 ", only):
        yield f"texts {number}", lambda: incidents_in_texts(seed + number)
    for grade, pairs in answers.SWAPS.items():
        for i, pair in enumerate(pairs):
            # hours with texts take long: in the quick form once
            if _is_wanted("S1 ", only) and not (QUICK and number and answers.DEADLINES[grade] > 60):
                yield f"{grade} {i}.{number}", partial(swapped, seed + 50 * i + number, grade, pair)
    if not number and any(_is_wanted(name, only) for name in ("S12 ", "S13 ")):
        yield "labels", lambda: job.labels(seed, MOMENTS)
    if not number and _is_wanted("S19 ", only):
        yield "documents", lambda: job.documents(seed, MOMENTS)
    if any(_is_wanted(name, only) for name in ("S5 ", "S16 ", "S18 ")):
        yield f"answers {number}", lambda: incidents_in_answers(seed + number)


def _is_wanted(name: str, only: tuple[str, ...]) -> bool:
    return not only or name.split()[0] in only


def incidents_in_world(
    seed: int, scenarios: list[Any], dressed: Callable[[worlds.World, int], worlds.World] = lambda world, seed: world
) -> Iterable[Result]:
    """Put incidents into days of m-large that are drawn by ``seed`` and ``dressed`` for the scenarios."""
    draws = np.random.default_rng([seed, 2])
    since = float(draws.uniform(0, 14 - WARM_UP_DAYS - 0.5))
    longest = max(s.lasts for s in scenarios)
    found = dressed(worlds.world("m-large", since, WARM_UP_DAYS + longest / DAY + 0.01, seed), seed)
    begin = int(found.calls.t[0])
    # the last half day of the warm-up and its end
    times = moments(found, begin + int((WARM_UP_DAYS - 0.5) * DAY), begin + int(WARM_UP_DAYS * DAY), MOMENTS, draws)
    return run_world(found, scenarios, times, 100 * seed, say=say)


def incidents_in_mooncake(seed: int, scenarios: list[Any]) -> Iterable[Result]:
    """Put incidents into the third time of Mooncake's hour."""
    found = worlds.cached_hours(4, seed)
    begin, draws = int(found.calls.t[0]), np.random.default_rng([seed, 3])
    times = moments(found, begin + 2 * HOUR, begin + 3 * HOUR, MOMENTS, draws)
    return run_world(found, scenarios, times, 100 * seed, say=say)


def incidents_in_texts(seed: int) -> Iterable[Result]:
    """Shift the topics of prompts in part of a day of m-large."""
    texts, draws = Texts(), np.random.default_rng([seed, 4])
    found = with_prompts(worlds.world("m-large", float(draws.uniform(0, 13)), 0.55, seed), texts, seed)
    begin = int(found.calls.t[0])
    times = moments(found, begin + DAY // 4, begin + DAY // 2, MOMENTS, draws)
    return run_world(found, scenarios(texts), times, 100 * seed, config=_with_texts(texts), say=say)


def swapped(seed: int, grade: str, pair: tuple[str, str]) -> Iterable[Result]:
    """S1: swap the models of ``pair`` in a few hours of m-large."""
    texts = answers.Answers.of(*pair)
    count = 4 if not QUICK else 2 if answers.DEADLINES[grade] < 60 else 1
    return _answered(seed, texts, answers.swaps(texts, grade), count)


def incidents_in_answers(seed: int) -> Iterable[Result]:
    """Put what texts alone show into the answers of a model that is drawn at random."""
    draws = np.random.default_rng([seed, 10])
    texts = answers.Answers.of(*answers.SWAPS["S1 easy"][int(draws.integers(2))])
    return _answered(seed, texts, answers.others(texts), MOMENTS, signals=SIGNALS)


def _answered(seed: int, texts: answers.Answers, scenarios: list[Any], count: int, **more: Any) -> Iterable[Result]:
    draws = np.random.default_rng([seed, 11])
    longest = max(s.lasts for s in scenarios)
    found = worlds.world("m-large", float(draws.uniform(0, 13)), 0.11 + longest / DAY, seed)
    found = texts.world(found, seed)
    begin = int(found.calls.t[0])
    # after more than an hour and a half, in which 600 answers and 200 of each signal are learned
    times = moments(found, begin + int(0.07 * DAY), begin + int(0.1 * DAY), count, draws)
    return run_world(found, scenarios, times, 100 * seed, config=_with_answers(texts.instructions) | more, say=say)


def other_instructions(seed: int) -> Result:
    """Q5: judge a quarter of a day in which the instructions change and the model does not."""
    draws = np.random.default_rng([seed, 12])
    models = [pair[0] for pairs in answers.SWAPS.values() for pair in pairs]
    texts = answers.Answers.of(*[str(draws.choice(models))] * 2)
    found = texts.world(worlds.world("m-large", float(draws.uniform(0, 13)), 0.25, seed), seed, halves=True)
    return whole("Q5 other answers", found, seed, **_with_answers(texts.instructions))


def _with_answers(instructions: list[str]) -> dict[str, Any]:
    folder = REPO / ".cache" / "incidents"
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "samples_per_s": 20.0,
        "signals": chosen(None),
        "embedder": lambda: Kept(folder / "instructions", instructions),
    }


def other_prompts(seed: int) -> Result:
    """Judge half a day in which the prompts change and the topics do not."""
    texts = Texts()
    found = other_half(worlds.world("m-large", 4, 0.5, seed), texts, seed)
    return whole("Q5 other prompts", found, seed, **_with_texts(texts))


def _with_texts(texts: Texts) -> dict[str, Any]:
    folder = REPO / ".cache" / "incidents"
    folder.mkdir(parents=True, exist_ok=True)
    return {"samples_per_s": 20.0, "embedder": lambda: Kept(folder / "prompts", texts.texts)}


def quiets(seed: int) -> dict[str, Callable[[], worlds.World]]:
    """Return name -> the stream in which every alarm is false."""
    days = 2 if QUICK else 14
    return {
        "Q1 m-small": lambda: worlds.world("m-small", 1, days if QUICK else 12, seed),
        "Q2 m-large": lambda: worlds.world("m-large", 0, days, seed),
        "Q3 code": lambda: worlds.hour("code", seed),
        "Q3 conv": lambda: worlds.hour("conv", seed),
        "Q4 bursts": lambda: worlds.hourly(10 if QUICK else 61, seed),
        "Q5 mix of clients": lambda: worlds.mix_shift(worlds.world("m-large", 4, 1 if QUICK else 2, seed), seed),
        "Q6 growth": lambda: worlds.growing(days, seed),
        "Q7 2,000 series": lambda: worlds.many_series(1 if QUICK else 7, seed),
    }


def whole(name: str, world: worlds.World, seed: int, **config: Any) -> Result:
    """Judge a whole stream in which nothing is injected."""
    start, end = int(world.calls.t[0]), int(world.calls.t[-1]) + 5 * MINUTE
    stream = Stream.begin(start, end, **config)
    stream.feed(lines(world.calls, world.naming, seed))
    stream.alerts += stream.stages.finish()
    return quiet(name, stream, start, end)


def main() -> None:
    options = _options()
    if not worlds.DATA.is_dir():
        raise SystemExit(f"no data in {worlds.DATA}: set TAILRACE_TEST_DATA")
    other_libraries.importable()
    rules: dict[str, dict[str, float]] = {}
    for detector, field, value in (text.replace("=", ".", 1).split(".", 2) for text in options.set):
        rules.setdefault(detector, {})[field] = float(value)
    Stream.judge = Judge(configure(rules))
    Stream.tick_us = round(options.tick_s * 1e6) or Stream.tick_us
    kept = _kept(options.results)
    began, spent = time.monotonic(), sum(r.get("took_s", 0.0) for r in kept)
    for name, compute in () if options.report else units(options.seed, options.only):
        if any(r["unit"] == name for r in kept):
            say(f"{name}: kept from an earlier run")
            continue
        started = time.monotonic()
        rows = [{"unit": name, **row} for row in compute()]
        rows[-1]["took_s"] = round(time.monotonic() - started, 1)
        with options.results.open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        kept += rows
        say(f"{name}: {len(rows)} results in {rows[-1]['took_s']} s")
    _report(kept, time.monotonic() - began, spent)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _report(results: list[Result], took_s: float, spent_s: float) -> None:
    show(results, NAMES, _say)
    draws = [r for r in results if r["kind"] == "draw"]
    report(
        {
            **total(results, "tailrace"),
            "baselines": {name: total(results, name) for name in NAMES},
            "scenarios": {
                name: figures([r for r in draws if r["scenario"] == name], "tailrace")
                for name in dict.fromkeys(r["scenario"] for r in draws)
            },
            "not_watched": sorted(NOT_WATCHED),
            "quiet": {
                name: [sum(r["tailrace"] for r in mine), round(sum(r["days"] for r in mine), 2)]
                for name in dict.fromkeys(r["scenario"] for r in results if r["kind"] == "quiet")
                for mine in [[r for r in results if r["kind"] == "quiet" and r["scenario"] == name]]
            },
            "took_s": round(took_s + spent_s),
        },
        "numpy",
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), default=())
    parser.add_argument(
        "--set", action="append", default=[], help="DETECTOR.FIELD=NUMBER: other rules than the defaults"
    )
    parser.add_argument("--tick-s", type=float, default=0.0, help="event time between two ticks; default: 10, QUICK 30")
    parser.add_argument("--report", action="store_true", help="show what is kept, and measure nothing")
    parser.add_argument("--results", type=Path, help="default: in .cache/incidents of the repository")
    options = parser.parse_args()
    if options.results is None:
        options.results = REPO / ".cache" / "incidents" / f"{'quick' if QUICK else 'full'}-{options.seed}.jsonl"
    options.results.parent.mkdir(parents=True, exist_ok=True)
    return options


def _kept(file: Path) -> list[Result]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def say(text: str) -> None:
    """Show progress."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
