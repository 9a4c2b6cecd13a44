"""The gate's shell: files, the lake, endpoints and clocks around the pure parts of ``jobs.gate``."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.evals.scorers import Scorer
from jobs.gate import answers as kept_answers
from jobs.gate import clients, formats, golden_file, report, results, runner
from jobs.gate.cost import priced
from jobs.gate.golden_file import GoldenCases
from jobs.gate.report import Inputs
from jobs.gate.results import Results
from jobs.gate.runner import Side
from jobs.gate.settings import GateInputError, GateSettings, parse
from jobs.gate.targets import parse_target
from pipelines.pricing import PriceBooks, default_book
from schemas.errors import SettingsError
from tailrace.files import from_os_error, refused
from tailrace.gate import lake as from_lake
from tailrace.records import audit
from tailrace.settings.model import Settings

Now = Callable[[], int]
Start = Callable[[int], Callable[[], None]]
_DEFAULT = Path("gate.yaml")
_VERSION = re.compile(r"(?:(?P<name>[a-z0-9][a-z0-9._-]{0,63})@)?(?P<version>[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Asked:
    """What the command was given."""

    candidate: Path | None
    baseline: Path | None
    golden: str | None
    thresholds: Path | None
    out: Path
    samples: int | None
    unreviewed: bool = False
    """Unreviewed cases count as well."""


def run(
    asked: Asked,
    settings: Settings,
    *,
    scorers: Sequence[Scorer],
    cache: Path | None,
    texts: bool,
    force: bool,
    now: Now,
    progress: Start,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Compare, write the reports into ``asked.out``, and return the report with ``notes`` among its warnings.

    Raises:
        GateInputError: a file or an option cannot be used, or one side answers nothing; nothing is written.
        FileRefusedError: the operating system refuses a file.
        LakeUnavailableError: a version of a golden set was named and the lake cannot be read.
    """
    candidate_file, baseline_file = _named(asked.candidate, "--candidate"), _named(asked.baseline, "--baseline")
    check_out(asked.out, force=force)
    if cache is not None:
        _make_cache(cache)
    thresholds = _thresholds(asked)
    golden = _golden(asked.golden, settings, thresholds, now())
    golden = replace(golden, warnings=(*golden.warnings, *_unused_rubrics(golden, scorers), *notes))
    if asked.unreviewed:
        golden = replace(golden, cases=tuple(replace(case, shadow=False) for case in golden.cases))
    sides = [_side("candidate", candidate_file)]
    earlier = _earlier(baseline_file, golden)
    if earlier is None:
        sides.append(_side("baseline", baseline_file))
    step = progress(len(golden.cases) * thresholds.samples * len(sides))
    runner.run(sides, golden.cases, samples=thresholds.samples, cache=kept_answers.Cache(cache), progress=step)
    books = PriceBooks((default_book(settings.prices),))
    found = [_results(side, golden, scorers, books, at=now()) for side in sides]
    inputs = Inputs(
        golden,
        found[0],
        earlier or found[1],
        thresholds.samples,
        {scorer.name: scorer.kind for scorer in scorers},
        from_lake.agreement(settings) if any(s.kind == "llm" for s in scorers) else {},
        from_lake.open_alerts(settings),
        now(),
    )
    made = report.make(inputs if texts else report.without_texts(inputs), thresholds)
    write(asked.out, formats.files(made))
    return made


def approve(path: Path, *, by: str | None, note: str, now: int) -> dict[str, Any]:
    """Write who signed the report at ``path`` beside it, and return the line.

    Raises:
        GateInputError: it is no report, was changed, or no person is named.
    """
    with refused("read", path):
        file = path / "report.json" if path.is_dir() else path
    signer = (by or "").strip()
    if not signer:
        raise GateInputError("--by", "nobody is named", "name who signs: --by NAME")
    with refused("read", file):
        text = file.read_bytes()
    try:
        read = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise GateInputError(str(file), "no JSON", "name the report.json that a gate wrote") from error
    sha256 = report.check_digest(read if isinstance(read, dict) else {}, str(file))
    at = datetime.fromtimestamp(now / 1e6, UTC).isoformat(timespec="seconds")
    row = {"sha256": sha256, "verdict": read["verdict"], "by": signer, "user": audit.actor(), "note": note, "at": at}
    with refused("write", file.with_name("approvals.jsonl")), file.with_name("approvals.jsonl").open("a") as out:
        out.write(json.dumps(row) + "\n")
    return row


def check_out(out: Path, *, force: bool) -> None:
    """Refuse a folder before anything is paid.

    Raises:
        GateInputError: it holds a report and ``force`` is off, or something that is no report.
    """
    if not os.path.lexists(out):
        if not out.absolute().parent.is_dir():
            raise GateInputError("--out", f"the folder of {out} does not exist", "make it, or name another")
        return
    if not out.is_dir():
        raise GateInputError("--out", f"{out} is no folder", "name another")
    names = {each.name for each in out.iterdir()}
    if names and "report.json" not in names:
        raise GateInputError("--out", f"{out} holds other files", "name a new folder")
    if names and not force:
        raise GateInputError("--out", f"{out} holds a report", "name a new folder, or replace it with --force")


def write(out: Path, contents: dict[str, bytes]) -> None:
    """Write all files into a folder that takes its name when they are whole; what it replaces goes after that.

    Raises:
        FileRefusedError: the operating system refuses.
    """
    whole = out.absolute()
    draft, old = (whole.with_name(f".{whole.name}.{os.getpid()}.{kind}") for kind in ("draft", "old"))
    try:
        draft.mkdir(mode=0o700)
        for name, content in contents.items():
            (draft / name).write_bytes(content)
        if os.path.lexists(whole):
            whole.rename(old)
        draft.rename(whole)
    except OSError as error:  # the error names the internal draft file
        raise from_os_error("write", OSError(error.errno, error.strerror), out) from error
    finally:
        for folder in (draft, old):
            with suppress(OSError):
                shutil.rmtree(folder)


def _make_cache(folder: Path) -> None:
    """Make the folder of answers, and refuse one that cannot be read before anything is paid."""
    with refused("write to the cache", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.scandir(folder).close()


def _unused_rubrics(golden: GoldenCases, scorers: Sequence[Scorer]) -> list[str]:
    """Return a warning where cases have a rubric and no scorer takes it."""
    ruled = sum(case.rubric is not None for case in golden.cases)
    if not ruled or any(getattr(scorer, "takes_case_rubric", False) for scorer in scorers):
        return []
    return [f"cases with a rubric of their own: {ruled}, and no judge that takes it was run (docs/how-to/evals.md)"]


def _named(path: Path | None, option: str) -> Path:
    if path is None:
        raise SettingsError(option, "it is missing", "name a YAML file; docs/how-to/gate.md shows one")
    return path


def _text(path: Path) -> str:
    with refused("read", path):
        try:
            return path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise GateInputError(str(path), f"no UTF-8 at byte {error.start}", "save it as UTF-8") from error


def _thresholds(asked: Asked) -> GateSettings:
    path = asked.thresholds or (_DEFAULT if _DEFAULT.is_file() else None)
    found = parse(_text(path), str(path)) if path else GateSettings()
    return replace(found, samples=asked.samples) if asked.samples else found


def _golden(given: str | None, settings: Settings, thresholds: GateSettings, at: int) -> GoldenCases:
    if not given:
        raise SettingsError("--golden", "it is missing", "name a version, NAME@VERSION, or a file of `golden export`")
    if match := _VERSION.fullmatch(given):
        found = from_lake.golden(
            settings, match["name"], int(match["version"]), stale_days=thresholds.stale_days, at=at
        )
    else:
        path = Path(given)
        with refused("read", path):
            lines = path.read_bytes().decode("utf-8-sig", "replace").split("\n")
        found = golden_file.from_lines(lines, path.name)
    if not found.cases:
        first = f", the first problem: {found.problems[0]}" if found.problems else ""
        raise GateInputError(given, f"it holds no case{first}", "name a set with cases")
    return found


def _side(name: str, path: Path) -> Side:
    target = parse_target(_text(path), str(path))
    answerer = clients.answerer(target, environment=os.environ, folder=path.absolute().parent)
    paced = clients.Paced(answerer, target.requests_per_minute, clock=time.monotonic, wait=time.sleep)
    return Side(name, target, paced)


def _earlier(path: Path, golden: GoldenCases) -> Results | None:
    """Return the results that a report holds; None where ``path`` is a YAML file."""
    if path.suffix != ".json":
        return None
    with refused("read", path):
        return report.baseline_of(path.read_bytes(), str(path), golden)


def _results(side: Side, golden: GoldenCases, scorers: Sequence[Scorer], books: PriceBooks, *, at: int) -> Results:
    every = [answer for samples in side.answers.values() for answer in samples]
    costed = iter(priced(every, side.target, books, at=at))  # one batch: a batch costs more than an answer
    side.answers = {case: [next(costed) for _ in samples] for case, samples in side.answers.items()}
    return results.results(side, results.score(scorers, golden.cases, side), texts=True)
