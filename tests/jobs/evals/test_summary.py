"""The report's numbers: weighted, compared with the week before, at most three decisions, and escaped where shown."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from jobs.evals.lines import NO_BASELINE, SCORER_CHANGED, TOO_FEW, Line, anchor
from jobs.evals.markdown import to_json, to_markdown
from jobs.evals.summary import Period, Summary, summarise
from jobs.markdown import escape
from tests.jobs.evals.lake import DAYS

WEEK = Period(*DAYS, "run-2")
BEFORE = Period(DAYS[0] - timedelta(days=7), DAYS[1] - timedelta(days=7), "run-1")


def rows(
    share: float, calls: int = 200, *, name: str = "answered", probability: float = 0.1, **changes: Any
) -> list[dict[str, Any]]:
    good = round(share * calls)
    app = changes.get("app", "bot")
    return [
        {
            **{"name": name, "version": "v1", "kind": "code", "judge_model": None, "call_id": f"{app}-{i:05d}"},
            **{"app": app, "variant": None, "score": float(i < good), "label": "yes" if i < good else "refused"},
            **{"explanation": None, "error": None, "probability": probability, "stratum": f'["{app}"]'},
            **{"stratum_calls": int(calls / probability), "stratum_with_text": int(calls / probability)},
            **{"stratum_sampled": calls, "feature": "chat", "model": "gpt-4o", "prompt_name": "p"},
            **{"prompt_version": "1", "team": None, "release": None},
            **changes,
        }
        for i in range(calls)
    ]


def line(summary: Summary, dimension: str = "all", slice_: str = "all calls", scorer: str = "answered") -> Line:
    (found,) = [x for x in summary.lines if (x.scorer, x.dimension, x.slice) == (scorer, dimension, slice_)]
    return found


def test_the_first_week_has_no_baseline_and_no_decisions() -> None:
    summary = summarise(rows(0.9), None, period=WEEK)
    assert (summary.baseline, summary.decisions, summary.compared) == (None, (), 0)
    assert line(summary).note == NO_BASELINE
    assert line(summary).now.mean == pytest.approx(0.9)
    text = to_markdown(summary)
    assert "no baseline yet" in text
    assert "▲" not in text
    assert "▼" not in text


def test_a_small_app_that_was_sampled_densely_counts_by_its_calls() -> None:
    both = [*rows(1.0, 100, probability=0.01), *rows(0.0, 100, app="tiny", probability=0.5)]
    summary = summarise(both, None, period=WEEK)
    assert line(summary).now.mean == pytest.approx(10_000 / 10_200)
    assert line(summary, "app", "tiny").now.mean == 0.0
    assert summary.coverage.calls == 10_200
    assert summary.coverage.sampled == 200


def test_a_drop_is_a_decision_with_owner_number_interval_and_link() -> None:
    new = [*rows(0.6, team="search"), *rows(0.95, app="shop")]
    old = [*rows(0.95, team="search"), *rows(0.95, app="shop")]
    summary = summarise(new, old, period=WEEK, baseline=BEFORE)
    (decision,) = summary.decisions
    assert decision.line.owner == "search"
    assert decision.line.change is not None
    assert decision.line.change.value < -0.1
    assert decision.anchor == anchor(decision.line)
    assert "fell by" in decision.sentence
    assert line(summary, "app", "bot").significant
    assert not line(summary, "app", "shop").significant
    assert summary.unchanged == summary.compared - sum(each.significant for each in summary.lines)
    assert "▼" in to_markdown(summary)


def test_there_are_at_most_three_decisions_one_of_each_slice() -> None:
    names = ["a", "b", "c", "d", "e"]
    new = [row for name in names for row in rows(0.5, name=name, app=f"app-{name}")]
    old = [row for name in names for row in rows(0.9, name=name, app=f"app-{name}")]
    other = [row for name in names for i in "12" for row in rows(0.9, name=name, app=f"other-{name}{i}")]
    summary = summarise([*new, *other], [*old, *other], period=WEEK, baseline=BEFORE)
    assert len(summary.decisions) == 3
    assert len({each.line.slice for each in summary.decisions}) == 3
    assert all(each.also == () for each in summary.decisions)


def test_nothing_changed_is_one_line() -> None:
    summary = summarise(rows(0.9), rows(0.9), period=WEEK, baseline=BEFORE)
    assert (summary.decisions, summary.unchanged) == ((), summary.compared)
    assert f"{summary.compared} of {summary.compared} comparisons" in to_markdown(summary)


def test_another_version_of_a_scorer_is_another_series() -> None:
    summary = summarise(rows(0.5, version="v2"), rows(0.9), period=WEEK, baseline=BEFORE)
    assert line(summary).note == SCORER_CHANGED
    assert line(summary).change is None
    assert not summary.decisions


def test_few_calls_have_no_mean_and_no_change() -> None:
    summary = summarise(rows(0.5, 20), rows(0.9, 20), period=WEEK, baseline=BEFORE)
    assert (line(summary).note, line(summary).now.mean, line(summary).change) == (TOO_FEW, None, None)
    assert "too few" in to_markdown(summary)


def test_what_was_not_judged_is_counted_beside_the_mean() -> None:
    silent = rows(0.0, 100, app="mute", score=None, label="not_judgeable", explanation="no answer text")
    failed = rows(0.0, 10, app="bad", score=None, error="timed out")
    summary = summarise([*rows(1.0, 100), *silent, *failed], None, period=WEEK)
    assert line(summary).now.coverage == pytest.approx(100 / 210)
    assert summary.coverage.not_judgeable == {"answered": 100}
    assert summary.coverage.errors == {"answered": 10}


def test_the_worst_calls_are_those_that_failed_most_checks() -> None:
    two = [*rows(0.9, 50, name="a"), *rows(0.96, 50, name="b")]
    summary = summarise(two, None, period=WEEK)
    assert [call.call_id for call in summary.worst[:2]] == ["bot-00048", "bot-00049"]
    assert [name for name, *_ in summary.worst[0].failed] == ["a", "b"]
    texts = {
        "bot-00048": {"input_text": "why?", "output_text": "| <b>no</b>\n# x", "retrieval_docs": [{"text": "doc"}]}
    }
    text = to_markdown(summary, texts)
    assert "answered: \\| \\<b\\>no\\</b\\> \\# x" in text
    assert "retrieved: doc" in text


def test_names_of_strangers_are_escaped_and_cut() -> None:
    hostile = "[x](javascript:1)\x1b[2J | `code` \u202e" + "y" * 500
    assert escape(hostile, 40) == "\\[x\\]\\(javascript\\:1\\) \\[2J \\| \\`code\\` yyyyyyyy…"
    summary = summarise(rows(0.9, model=hostile), None, period=WEEK)
    text = to_markdown(summary)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[x](" not in text


def test_json_has_every_number_and_no_infinity() -> None:
    whole = rows(0.9, probability=1.0)
    document = json.loads(to_json(summarise(whole, None, period=WEEK)))
    first = document["lines"][0]
    assert first["now"]["mean"] == pytest.approx(0.9)
    assert first["now"]["design_n"] == pytest.approx(199)
    assert document["period"]["since"] == "2026-11-09"
    assert document["baseline"] is None


def test_a_week_without_scores_is_an_empty_report() -> None:
    summary = summarise([], None, period=WEEK)
    assert (summary.lines, summary.worst, summary.coverage.calls) == ((), (), 0)
    assert to_markdown(summary).startswith("# Quality of")


def released(share: float, release: str, *, first: int, **changes: Any) -> list[dict[str, Any]]:
    made = rows(share, release=release, **changes)
    return [{**row, "called_at": first + i, "call_id": f"{release}-{row['call_id']}"} for i, row in enumerate(made)]


def test_a_release_of_the_middle_of_the_week_is_compared_with_the_one_before_it() -> None:
    old = released(0.95, "1.3.0", first=0)
    new = [*released(0.95, "1.3.0", first=1000), *released(0.7, "1.4.0", first=2000)]
    summary = summarise(new, old, period=WEEK, baseline=BEFORE)
    found = line(summary, "release", "bot / 1.4.0")
    assert (found.against, found.series) == ("1.3.0", {"app": "bot", "release": "1.4.0", "against": "1.3.0"})
    assert found.now.mean == pytest.approx(0.7)
    assert found.before is not None
    assert (found.before.mean, found.before.n) == (pytest.approx(0.95), 400)
    assert found.significant
    (decision,) = summary.decisions
    assert decision.line == found
    assert "of release bot / 1.4.0 fell by 25.0 points against 1.3.0" in decision.sentence
    assert "against 1.3.0" in to_markdown(summary)


def test_a_prompt_version_is_compared_with_the_one_before_and_a_variant_with_the_one_that_most_calls_have() -> None:
    old = released(0.9, "1", first=0, prompt_version="9")
    new = [
        *released(0.9, "1", first=1000, calls=300, prompt_version="9", variant="control", experiment="tone"),
        *released(0.9, "1", first=2000, prompt_version="10", variant="short", experiment="tone"),
    ]
    found = [each for each in summarise(new, old, period=WEEK, baseline=BEFORE).lines if each.against]
    assert {(each.dimension, each.slice, each.against) for each in found} == {
        ("prompt version", "p / 10", "9"),
        ("variant", "bot / tone / short", "control"),
    }


def test_the_first_week_compares_nothing_not_even_releases() -> None:
    new = [*released(0.95, "1.3.0", first=1000), *released(0.5, "1.4.0", first=2000)]
    summary = summarise(new, None, period=WEEK)
    assert (summary.compared, summary.decisions) == (0, ())


def test_rates_say_how_many_calls_succeeded_and_not_the_mean_of_a_scale() -> None:
    middling = [row | {"score": 0.5, "label": "fail"} for row in rows(0.9, name="judge.task_success")]
    (rate,) = [each for each in summarise(middling, None, period=WEEK).rates if each.dimension == "all"]
    assert (rate.name, rate.now.mean) == ("task success", 0.0)
    unsafe = summarise(rows(0.9, name="answered"), rows(0.8, name="answered"), period=WEEK, baseline=BEFORE)
    (rate,) = [each for each in unsafe.rates if each.dimension == "app"]
    assert (rate.name, rate.slice, rate.up_is_good) == ("refusal", "bot", False)
    assert rate.now.mean == pytest.approx(0.1)
    assert rate.change is not None
    assert rate.change.value == pytest.approx(-0.1)


def test_a_judge_that_changed_is_a_break_and_its_agreement_with_people_begins_anew() -> None:
    judge: dict[str, Any] = {"name": "judge.safe", "kind": "llm"}
    people = rows(0.5, 60, name="human_label", kind="human")
    new = [*rows(0.6, 60, **judge, version="v2", judge_model="new"), *people]
    old = [*rows(0.5, 60, **judge, judge_model="old"), *people]
    summary = summarise(new, old, period=WEEK, baseline=BEFORE)
    (found,) = summary.breaks
    assert (found.scorer, found.old, found.new, found.old_model, found.new_model) == (
        *("judge.safe", "v1", "v2"),
        *("old", "new"),
    )
    (known,) = summary.agreements
    assert (known.now.labels, known.before) == (60, None)
    assert known.now.kappa == pytest.approx(0.8)
    same = summarise([*rows(0.5, 60, **judge), *people], old, period=WEEK, baseline=BEFORE).agreements[0]
    assert same.before is not None
    assert same.before.kappa == pytest.approx(1.0)


def test_shadow_and_canary_answers_are_in_the_lines_of_their_variants_and_in_no_total() -> None:
    control = rows(0.9, variant="control", called_at=1)
    shadow = rows(0.1, variant="shadow-x", called_at=2, release="9", call_id="")
    shadow = [{**row, "call_id": f"shadow-{i}"} for i, row in enumerate(shadow)]
    summary = summarise([*control, *shadow], rows(0.9, variant="control", called_at=0), period=WEEK, baseline=BEFORE)
    for dimension, name in (("all", "all calls"), ("app", "bot"), ("feature", "bot / chat"), ("model", "gpt-4o")):
        assert line(summary, dimension, name).now.mean == pytest.approx(0.9)
        assert line(summary, dimension, name).now.n == 200
    own, against = [x for x in summary.lines if x.slice.endswith("shadow-x")]
    assert (own.dimension, own.now.n, against.against) == ("variant", 200, "control")
    assert not [x for x in summary.lines if x.dimension == "release"]
    assert {rate.now.n for rate in summary.rates if rate.dimension == "all"} == {200}
    assert not [call for call in summary.worst if call.call_id.startswith("shadow")]
    assert summary.coverage.shadow == 200
    assert "200 of the drawn calls are of shadow and canary variants, and in no total" in to_markdown(summary)
