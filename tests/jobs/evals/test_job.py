"""A run of evals on a real lake: what is sampled, what lands, and what a killed run leaves to the next one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

import pytest

from jobs.evals.case import Case, Score
from jobs.evals.scorers import ByCase, choose
from jobs.evals.settings import EvalSettings, week_before
from pipelines.drift.embed import EmbedderUnavailableError
from tests.jobs.evals.lake import DAYS, MONDAY, NOW, Killed, LakeOutlet, ask, call, land_calls, now, run, uid
from warehouse.evals.runs import EvalRunBusyError, scoring
from warehouse.evals.scores import scores
from warehouse.lake import Lake
from warehouse.query.readonly import ReadOnlyLake
from warehouse.storage.connect import LakeConfig


def traffic() -> list[dict[str, object]]:
    """400 calls of two apps, 12 of a rare model; of ``bot`` every other call has its texts."""
    kept = {"content_mode": "redacted"}
    without = {"content_mode": "none", "messages": None, "input_text": None, "output_text": None}
    bot = [call(i, **(kept if i % 2 else without)) for i in range(300)]
    shop = [
        call(i, app="shop", feature=None, finish_reason="length" if i % 4 == 0 else "stop") for i in range(300, 400)
    ]
    rare = [call(i, model="o3", prompt_name="p", prompt_version="2") for i in range(400, 412)]
    outside = [
        call(500, env="staging"),
        call(501, op="embeddings"),
        call(502, app="tailrace-judge"),
        call(503, day=MONDAY + timedelta(days=7)),
        call(504, id=uid(1), _dup=True),
    ]
    return [*bot, *shop, *rare, *outside]


@pytest.fixture
def lake(config: LakeConfig) -> LakeConfig:
    land_calls(config, traffic())
    return config


def test_the_week_before_is_monday_to_sunday() -> None:
    assert week_before(NOW) == DAYS
    assert week_before(NOW - 2 * 86_400_000_000) == DAYS  # a Monday
    assert week_before(NOW - 3 * 86_400_000_000) == (MONDAY - timedelta(days=7), MONDAY - timedelta(days=1))


def test_a_run_scores_a_stratified_sample_and_its_scores_land_with_their_probability(
    lake: LakeConfig, outlet: LakeOutlet
) -> None:
    seen: list[tuple[int, int]] = []
    report = run(lake, outlet, progress=lambda done, total: seen.append((done, total)))
    assert (report.ok, report.done, report.calls, report.with_text) == (True, True, 412, 262)
    assert (report.strata, report.sampled, report.scores, report.skipped) == (3, 60, 180, 0)
    assert seen == [(60, 60)]
    outlet.land()
    rows = ask(lake, "FROM evals WHERE run_id = ?", report.run_id)
    assert len({row["id"] for row in rows}) == 180
    assert {row["evaluator_version"] for row in rows} == set(report.scorers.values())
    complete = [row for row in rows if row["name"] == "complete"]
    extra = [json.loads(row["extra"]) for row in complete]
    by_stratum = Counter(each["stratum"] for each in extra)
    assert by_stratum == {
        json.dumps(["bot", "chat", "gpt-4o", None, None]): 33,
        json.dumps(["shop", None, "gpt-4o", None, None]): 17,
        json.dumps(["bot", "chat", "o3", "p", "2"]): 10,
    }
    # content sampling is part of the probability: 150 of 300 calls of the bot have texts
    bot = next(each for each in extra if '"gpt-4o"' in each["stratum"] and '"bot"' in each["stratum"])
    assert bot["inclusion_probability"] == pytest.approx(33 / 300)
    assert (bot["stratum_calls"], bot["stratum_with_text"], bot["stratum_sampled"]) == (300, 150, 33)
    assert sum(1 / each["inclusion_probability"] for each in extra) == pytest.approx(412)
    assert {row["label"] for row in rows if row["name"] == "json_valid"} == {"not_judgeable"}
    cut = [row for row in complete if row["app"] == "shop" and row["label"] == "truncated"]
    assert cut
    assert all(row["score"] == 0.0 and row["evaluator_kind"] == "code" for row in cut)


def test_the_same_run_draws_the_same_calls_and_scores_nothing_twice(lake: LakeConfig, outlet: LakeOutlet) -> None:
    first = run(lake, outlet)
    outlet.land()
    land_calls(lake, [call(i, _landed_at=call(i)["ts"] + timedelta(days=20)) for i in range(600, 700)])
    again = run(lake, outlet)
    assert (again.run_id, again.calls, again.sampled) == (first.run_id, first.calls, first.sampled)
    assert (again.scores, again.skipped) == (0, 180)
    more = run(lake, outlet, scorers=choose(["exact_match", "normalised_match"]))
    assert (more.scores, more.skipped) == (60, 60)
    other = run(lake, outlet, settings=EvalSettings(size=60, floor=10, seed=2))
    assert other.run_id != first.run_id
    assert other.scores == 180


@pytest.mark.representatives(1)
@pytest.mark.parametrize("publications", [1, 2, 4])
def test_a_killed_run_goes_on_where_it_was_and_each_score_lands_once(
    lake: LakeConfig, outlet: LakeOutlet, publications: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.evals.job.SLICE", 15)
    outlet.kill_after = publications
    with pytest.raises(Killed):
        run(lake, outlet)
    assert len(outlet.published) == 45 * publications
    report = run(lake, outlet)
    assert outlet.caught_up >= 1
    assert (report.skipped, report.scores) == (45 * publications, 180 - 45 * publications)
    outlet.land()
    assert len(outlet.published) == 180
    assert ask(lake, "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM raw_evals") == [{"n": 180, "ids": 180}]


def test_what_was_published_and_has_not_landed_in_time_lands_as_a_duplicate(
    lake: LakeConfig, outlet: LakeOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "catch_up", lambda: False)
    outlet.kill_after = 1
    with pytest.raises(Killed):
        run(lake, outlet)
    report = run(lake, outlet)
    assert report.scores == 180
    outlet.land()
    assert len(outlet.published) == 360
    assert ask(lake, "SELECT count(*) AS n FROM evals") == [{"n": 180}]


def test_a_stopped_run_says_so_and_the_next_one_finishes_it(lake: LakeConfig, outlet: LakeOutlet) -> None:
    report = run(lake, outlet, stop=lambda: True)
    assert (report.ok, report.done, report.scores) == (True, False, 0)
    assert "stopped early" in report.text()
    assert run(lake, outlet).done


def test_one_process_scores_a_run_at_a_time(lake: LakeConfig, outlet: LakeOutlet) -> None:
    report = run(lake, outlet, stop=lambda: True)
    with (
        Lake.open(lake, now=now, lander=False) as other,
        scoring(other, report.run_id, now=now, owner="elsewhere"),
        pytest.raises(EvalRunBusyError, match=f"elsewhere scores eval run {report.run_id} already"),
    ):
        run(lake, outlet)
    assert run(lake, outlet).done


def test_an_empty_week_and_a_week_without_texts_score_nothing(config: LakeConfig, outlet: LakeOutlet) -> None:
    empty = run(config, outlet)
    assert (empty.done, empty.calls, empty.strata, empty.sampled, empty.scores) == (True, 0, 0, 0, 0)
    land_calls(config, [call(i, content_mode="none", output_text=None) for i in range(20)])
    silent = run(config, outlet, settings=EvalSettings(size=50, floor=5))
    assert (silent.calls, silent.with_text, silent.strata, silent.sampled) == (20, 0, 1, 0)


def test_what_a_scorer_failed_at_is_tried_again_and_counts_once(lake: LakeConfig, outlet: LakeOutlet) -> None:
    away = [True]

    def judge(case: Case) -> Score:
        return Score(error="unreachable: APIConnectionError") if away[0] else Score(1.0)

    scorers = (ByCase("judge.tone", judge), *choose(["complete"]))
    first = run(lake, outlet, scorers=scorers)
    assert first.errors == 60
    assert "judge.tone failed at all 60 calls, the first error: unreachable: APIConnectionError" in first.text()
    outlet.land()
    again = run(lake, outlet, scorers=scorers)  # still away: the same errors, which land as duplicates
    assert (again.errors, again.skipped) == (60, 60)
    outlet.land()
    away[0] = False
    last = run(lake, outlet, scorers=scorers)
    assert (last.errors, last.scores, last.skipped, last.failed) == (0, 60, 60, {})
    outlet.land()
    with ReadOnlyLake.open(lake) as reader:
        found = [row for row in scores(reader, last.run_id, *DAYS) if row["name"] == "judge.tone"]
    assert len(found) == 60
    assert all(row["score"] == 1.0 and row["error"] is None for row in found)
    assert run(lake, outlet, scorers=scorers).scores == 0


class Away:
    """A scorer whose model is gone after the first slice."""

    name, kind, version = "groundedness", "embedding", "1"

    def __init__(self, good: int = 1) -> None:
        self.asked, self._good = 0, good

    def score(self, cases: Sequence[Case]) -> Sequence[Score]:
        self.asked += 1
        if self.asked > self._good:
            raise EmbedderUnavailableError("the model's process is gone")
        return [Score(1.0) for _ in cases]


def test_a_model_that_is_away_fails_its_scorer_alone_and_is_not_asked_again(
    lake: LakeConfig, outlet: LakeOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.evals.job.SLICE", 15)
    away = Away()
    report = run(lake, outlet, scorers=(away, *choose(["complete"])))
    assert (report.done, report.ok, report.errors, report.scores) == (True, True, 45, 120)
    assert away.asked == 2
    assert "groundedness failed at 45 calls, the first error: cannot embed texts" in report.text()


def test_a_run_in_which_a_scorer_failed_everywhere_is_not_ok_until_it_works_again(
    lake: LakeConfig, outlet: LakeOutlet
) -> None:
    first = run(lake, outlet, scorers=(Away(good=0), *choose(["complete"])))
    assert (first.done, first.ok) == (True, False)
    assert first.text().startswith("FAILED in ")
    assert "groundedness failed at all 60 calls" in first.text()
    outlet.land()
    assert run(lake, outlet, scorers=(Away(), *choose(["complete"]))).ok
