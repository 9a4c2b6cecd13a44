"""``tailrace ab`` on a real lake: variants by their calls, scores and thumbs; a value a user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from jobs.gate import variants
from jobs.gate.verdict import Verdict
from schemas.tables import RAW_FEEDBACK
from tailrace.cli import ab as command
from tests.jobs.golden.lake import Here, Home, call, copied, now, uid, word
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("ab") / "home"
    Lake.open(LakeConfig(str(folder / "catalog.sqlite"), str(folder / "data")), now=now).close()
    made = copied(folder, folder.parent / "copy")
    calls = []
    for i in range(600):
        side = ("old", "new", "7")[i % 3]
        status = "error" if side == "7" and i % 2 else "ok"
        names = {"prompt_version": side} if side == "7" else {"variant": side, "prompt_version": "1"}
        calls.append(
            call(i, user_id=f"u{i // 2 if i % 6 < 3 else i}", latency_ms=100.0 + i % 5, status=status, **names)
        )
    thumbs = [
        word(i, kind="thumbs", call_id=uid(i), score=1.0 if i % 3 == 0 else -1.0) for i in range(600) if i % 3 < 2
    ]
    made.land(calls, **{RAW_FEEDBACK.name: thumbs})
    return made


def ab(home: Home, *words: str) -> tuple[int, str, str]:
    app = typer.Typer(callback=lambda: None)
    command.add_to(app)
    here = Here(home.config)
    here.as_json = False  # type: ignore[attr-defined]
    done = CliRunner().invoke(app, ("ab", "--since", "2026-11-01", *words), obj=here)
    return done.exit_code, done.stdout, done.stderr


def test_a_worse_variant_regresses_by_its_thumbs_and_not_by_its_latency(home):
    code, out, _ = ab(home, "--a", "old", "--b", "new", "--json")
    found = json.loads(out)
    measures = {each["measure"]: each for each in found["measures"]}
    assert (code, found["verdict"]) == (1, "regress")
    assert measures["thumbs"]["verdict"] == "regress"
    assert (measures["thumbs"]["a"], measures["thumbs"]["b"]) == (1.0, 0.0)
    assert measures["replied"]["verdict"] == "pass"
    assert measures["latency_ms"]["verdict"] == "pass"
    assert measures["cost_usd"]["estimate"] is None


def test_a_prompt_version_is_a_variant_too(home):
    code, out, _ = ab(home, "--a", "old", "--b", "7")
    assert code == 1
    assert out.startswith("regress: 7 against old\nregress    replied  -50.0 points [")


def test_a_scorer_that_only_informs_is_shown_and_does_not_count() -> None:
    def user(side: str, number: int, **values: float) -> dict[str, object]:
        return {"side": side, "unit": f"{side}{number}", **values}

    usual = {"replied": 1.0, "cost_usd": 1.0, "latency_ms": 100.0}
    calls = [user(side, i, **usual) for side in "ab" for i in range(2000)]
    low = [user(side, i, score=float(side == "a")) | {"name": "groundedness"} for side in "ab" for i in range(2000)]
    found = {each.measure: each for each in variants.comparisons(calls, low)}
    assert found["groundedness"].verdict is Verdict.REGRESS
    assert [name for name, each in found.items() if variants.counts(each)] == ["replied", "cost_usd", "latency_ms"]
    assert variants.line(found["groundedness"]).endswith("2000 and 2000 users  (inform)")


def test_a_variant_without_calls_is_refused(home: Home, tmp_path: Path) -> None:
    code, out, error = ab(home, "--a", "old", "--b", "none")
    assert (code, out) == (3, "")
    assert "no landed call has the variant or prompt version 'none'" in error
    assert ab(home, "--a", "old")[0] == 3
