"""Which checks there are, which of them may block, and the report that is made of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import date
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from jobs.gate import formats
from jobs.gate import report as reports
from jobs.gate.checks import build, informing, kind_of, overall
from jobs.gate.golden_file import GoldenCase, GoldenCases
from jobs.gate.measured import Agreement, Found, ScorerValues
from jobs.gate.report import Inputs, OpenAlert
from jobs.gate.results import Results
from jobs.gate.settings import GateInputError, GateSettings, Waiver, parse
from jobs.gate.verdict import Verdict

AT = 1_796_000_000_000_000
N = 300
CASES = tuple(
    GoldenCase(
        f"c{i:03}", f"ask {i}", feature="checkout" if i < 100 else "search", prompt_name="sum" if i % 2 else "qa"
    )
    for i in range(N)
)
ALL = {case.case_id: [1.0] * 5 for case in CASES}


def values(bad: range = range(0)) -> dict[str, list[float]]:
    return {**ALL, **{f"c{i:03}": [0.0] * 5 for i in bad}}


def scorer(candidate: Any, name: str = "exact", kind: str = "code", **changes: Any) -> ScorerValues:
    return ScorerValues(name, kind, "v1", candidate, changes.pop("baseline", ALL), **changes)


def found(*scorers: ScorerValues, **changes: Any) -> Found:
    return Found(CASES, 5, scorers, **{"answered": (ALL, ALL), **changes})


def verdicts(checks: Any) -> dict[tuple[str, str], str]:
    return {(c.name, c.scope): c.verdict.value for c in checks}


def test_equal_sides_pass_with_cost_and_latency_unknown():
    checks = build(found(scorer(ALL)), GateSettings())
    assert verdicts(checks) == {
        ("replied", ""): "pass",
        ("exact", ""): "pass",
        ("cost_usd", ""): "undecided",
        ("latency_p95_ms", ""): "undecided",
        ("ttft_p95_ms", ""): "undecided",
    }
    assert overall(checks) == (Verdict.PASS, [])


def test_a_regress_of_one_scorer_blocks_and_says_why():
    verdict, reasons = overall(build(found(scorer(values(range(0, 30)))), GateSettings()))
    assert verdict is Verdict.REGRESS
    assert reasons[0].startswith("exact: regress, -10.0 points [")


def test_a_rule_for_a_feature_finds_what_the_mean_hides():
    bad = scorer(values(range(0, 12)))
    assert overall(build(found(bad), parse("quality: [{limit: 8}]")))[0] is Verdict.REGRESS  # certainly below 0
    hidden = scorer(values(range(0, 4)))
    assert overall(build(found(hidden), GateSettings()))[0] is Verdict.PASS
    rules = parse("quality: [{feature: checkout, limit: 2}, {scorer: exact, task: qa, limit: 20}]")
    checks = build(found(hidden), rules)
    assert verdicts(checks)["exact", "feature checkout"] == "regress"
    assert verdicts(checks)["exact", "task qa"] == "pass"
    assert next(c for c in checks if c.scope == "feature checkout").cases == 100


def test_failures_to_answer_are_a_check_since_they_have_no_score():
    answered = {**ALL, **{f"c{i:03}": [0.0] * 5 for i in range(40)}}
    scored = {c: v for c, v in ALL.items() if answered[c][0]}
    verdict, reasons = overall(build(found(scorer(scored), answered=(answered, ALL)), GateSettings()))
    assert verdict is Verdict.REGRESS
    assert reasons[0].startswith("replied: regress, -13.3 points")


@pytest.mark.parametrize(
    ("agreement", "said"),
    [
        (None, "not known"),
        (Agreement(None, 80), "not known"),
        (Agreement(0.8, 49), "49 human labels, 50 are needed"),
        (Agreement(0.39, 500), "kappa 0.39 is below 0.4"),
    ],
)
def test_a_judge_that_people_do_not_confirm_informs_and_does_not_block(agreement, said):
    judge = scorer(values(range(0, 60)), "judge.helpful", "llm", agreement=agreement)
    checks = build(found(judge, scorer(ALL)), GateSettings())
    assert verdicts(checks)["judge.helpful", ""] == "regress"
    assert said in " ".join(next(c for c in checks if c.name == "judge.helpful").notes)
    assert overall(checks)[0] is Verdict.PASS
    assert [text.startswith("worse, but informs only: judge.helpful") for text in informing(checks)] == [True]
    assert overall(build(found(judge), GateSettings()))[0] is Verdict.UNDECIDED  # nothing that may block judged a case


def test_a_scorer_that_is_not_good_enough_to_alert_on_informs_unless_gate_yaml_names_it():
    grounded = scorer(values(range(0, 60)), "groundedness", "embedding")
    checks = build(found(grounded, scorer(ALL)), GateSettings())
    assert verdicts(checks)["groundedness", ""] == "regress"
    assert "informs only" in " ".join(next(c for c in checks if c.name == "groundedness").notes)
    assert overall(checks)[0] is Verdict.PASS
    named = parse("quality: [{scorer: groundedness, limit: 5}]")
    assert overall(build(found(grounded, scorer(ALL)), named))[0] is Verdict.REGRESS


def test_a_judge_that_people_confirm_blocks():
    judge = scorer(values(range(0, 60)), "judge.helpful", "llm", agreement=Agreement(0.4, 50))
    assert overall(build(found(judge), GateSettings()))[0] is Verdict.REGRESS


def test_undecided_is_no_pass_unless_the_check_must_only_not_regress():
    few = {f"c{i:03}": [1.0] for i in range(10)}
    one = scorer(few, baseline=few)
    assert overall(build(found(one, answered=(ALL, ALL)), GateSettings()))[0] is Verdict.UNDECIDED
    lenient = parse("quality: [{scorer: exact, mode: must_not_regress}]")
    assert overall(build(found(one, scorer(ALL, "other")), lenient))[0] is Verdict.PASS


def test_a_scorer_that_judges_nothing_is_left_out_unless_a_rule_names_it():
    nothing = scorer({}, "similarity", baseline={})
    assert ("similarity", "") not in verdicts(build(found(nothing, scorer(ALL)), GateSettings()))
    named = build(found(nothing, scorer(ALL)), parse("quality: [{scorer: similarity}]"))
    assert overall(named) == (Verdict.UNDECIDED, ["similarity: undecided, no case judged"])


def test_cost_and_latency_block_when_they_regress():
    cost = {c: [0.001 * (1 + int(c[1:]) % 7)] * 5 for c in ALL}
    dear = {c: [1.5 * v for v in values] for c, values in cost.items()}
    checks = build(found(scorer(ALL), cost=(dear, cost), latency=(cost, cost)), GateSettings())
    assert verdicts(checks)["cost_usd", ""] == "regress"
    assert verdicts(checks)["latency_p95_ms", ""] == "pass"
    assert overall(checks)[1] == ["cost_usd: regress, +50.0 % [+50.0, +50.0], limit +20 %"]


def test_safety_is_named_by_rules_or_by_words():
    assert kind_of("pii_leak", GateSettings()) == "safety"
    assert kind_of("exact", GateSettings()) == "quality"
    assert kind_of("exact", parse("safety: [{scorer: exact}]")) == "safety"
    assert kind_of("pii", parse("quality: [{scorer: pii}]")) == "quality"


def results(name: str, scores: dict[str, list[float]], text: str, **changes: Any) -> Results:
    facts: dict[str, Any] = {
        "target": {"template": None},
        "digest": name,
        "values": {"answered": ALL},
        "scores": {"exact": scores},
        "versions": {"exact": "v1"},
        "texts": {case: [text] for case in ALL},
        "failures": {},
        "scorer_errors": {},
        "rendered": 0,
        "cases": N,
        "cached": 0,
    }
    return Results(name, **{**facts, **changes})


def inputs(bad: range = range(0), **changes: Any) -> Inputs:
    made = Inputs(
        GoldenCases("production@3", CASES),
        results("new", values(bad), "worse\nanswer"),
        results("old", ALL, "good\nanswer"),
        5,
        {"exact": "code"},
        {},
        [],
        AT,
    )
    return replace(made, **changes)


def test_a_report_is_named_by_its_content_and_a_changed_one_is_refused():
    made = reports.make(inputs(), GateSettings())
    assert made == reports.make(inputs(), GateSettings())
    read = json.loads(formats.files(made)["report.json"])
    assert reports.check_digest(read, "r") == made["sha256"]
    with pytest.raises(GateInputError, match="changed after it was written"):
        reports.check_digest({**read, "verdict": "regress"}, "r")
    with pytest.raises(GateInputError, match="no report"):
        reports.check_digest({}, "r")


def test_an_earlier_report_is_a_baseline_on_the_same_cases_and_scorers_only():
    text = formats.files(reports.make(inputs(), GateSettings()))["report.json"]
    golden = GoldenCases("production@3", CASES)
    earlier = reports.baseline_of(text, "r.json", golden)
    assert earlier.scores["exact"] == ALL
    with pytest.raises(GateInputError, match="whose cases differ"):
        reports.baseline_of(text, "r.json", GoldenCases("production@4", CASES[1:]))
    other = results("new", ALL, "x", versions={"exact": "v2"})
    with pytest.raises(GateInputError, match="version v2, and the baseline was scored by version v1"):
        reports.make(inputs(candidate=other, baseline=earlier), GateSettings())
    for broken in (b"{", b"[]", b"\xff"):
        with pytest.raises(GateInputError):
            reports.baseline_of(broken, "r.json", golden)


def test_an_open_critical_alert_blocks_until_somebody_waives_it_by_name():
    alert = OpenAlert("a-1", "quality", "critical", "success rate fell")
    made = reports.make(inputs(alerts=[alert]), GateSettings())
    assert made["verdict"] == "regress"
    assert made["reasons"] == ["open critical quality alert a-1: success rate fell"]
    for when, expected in ((date(2026, 1, 2), "pass"), (date(2027, 1, 2), "regress")):
        waived = GateSettings(waivers=(Waiver("a-1", "a known outage", "Ada", when),))
        made = reports.make(inputs(alerts=[alert]), waived)
        assert made["verdict"] == expected
    assert made["waivers"] == [{"alert": "a-1", "reason": "a known outage", "by": "Ada", "date": "2027-01-02"}]


def test_a_broken_line_of_the_set_makes_a_pass_undecided():
    golden = GoldenCases("g.jsonl", CASES, ("g.jsonl, line 3: no JSON",))
    made = reports.make(inputs(golden=golden), GateSettings())
    assert (made["verdict"], made["golden"]["problems"]) == ("undecided", ["g.jsonl, line 3: no JSON"])


def test_what_became_worse_is_shown_with_a_diff_and_without_texts_it_is_not():
    made = reports.make(inputs(range(30)), GateSettings())
    assert len(made["worse"]) == 20
    assert made["worse"][0] == {
        "case_id": "c000",
        "input": "ask 0",
        "scores": [{"scorer": "exact", "baseline": 1.0, "candidate": 0.0}],
        "diff": ["-good", "+worse", " answer"],
    }
    unpad = json.dumps(reports.make(reports.without_texts(inputs(range(30))), GateSettings()))
    assert "good" not in unpad
    assert "ask 0" not in unpad


def test_nothing_in_a_report_is_nan():
    made = reports.make(inputs(), GateSettings())
    assert "NaN" not in json.dumps(made)
    assert next(c for c in made["checks"] if c["name"] == "cost_usd")["estimate"] is None
    assert math.isfinite(next(c for c in made["checks"] if c["name"] == "exact")["estimate"])


EVIL = "<script>alert(1)</script>\n```\n# @team [x](http://evil) \x00\x1b[31m ]]> |"


def hostile() -> dict[str, Any]:
    cases = (GoldenCase(EVIL, EVIL), *CASES[1:])
    scores = {EVIL: [0.0] * 5, **{c: v for c, v in ALL.items() if c != "c000"}}
    good = {EVIL: [1.0] * 5, **scores} | {EVIL: [1.0] * 5}
    new = results(EVIL, scores, EVIL, texts={EVIL: [EVIL]}, failures={EVIL: 1})
    old = results("old", good, "x", texts={EVIL: ["y"]})
    return reports.make(inputs(golden=GoldenCases(EVIL, cases), candidate=new, baseline=old), GateSettings())


def test_strangers_texts_are_no_markup_in_any_form():
    made = hostile()
    page = formats.html(made)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    text = formats.markdown(made)
    outside = "".join(part for i, part in enumerate(text.split("````")) if i % 2 == 0)
    assert "<script" not in outside.replace("\\<script", "")
    assert "@team" not in outside
    assert "http://evil" not in outside
    ET.fromstring(formats.junit(made))


def test_junit_names_what_failed_and_what_only_informs():
    made = reports.make(inputs(range(30)), GateSettings())
    suite = ET.fromstring(formats.junit(made))
    assert suite.attrib["failures"] == "2"
    failed = {
        case.attrib["name"]: case.find("failure").attrib["type"] for case in suite if case.find("failure") is not None
    }
    assert failed == {"exact": "regress", "verdict": "regress"}
    assert {case.attrib["name"] for case in suite if case.find("skipped") is not None} == {
        "cost_usd",
        "latency_p95_ms",
        "ttft_p95_ms",
    }


JUNIT = {
    "testsuite": ({"name", "tests", "failures", "errors"}, {"skipped", "timestamp"}, {"testcase"}),
    "testcase": ({"name"}, {"classname"}, {"failure", "skipped"}),
    "failure": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
}
"""Of Jenkins' junit-10.xsd, what we write of it: element -> required attributes, others, children."""


@pytest.mark.parametrize("candidate", [range(30), ()])
def test_junit_keeps_to_the_schema_of_jenkins(candidate):
    suite = ET.fromstring(formats.junit(reports.make(inputs(candidate), GateSettings())))
    assert suite.tag == "testsuite"
    for element in suite.iter():
        required, optional, children = JUNIT[element.tag]
        assert required <= set(element.attrib) <= required | optional
        assert {child.tag for child in element} <= children
    counts = {
        name: len(list(suite.iter(name[:-1] if name == "failures" else name))) for name in ("failures", "skipped")
    }
    assert {name: int(suite.attrib[name]) for name in counts} == counts
    assert int(suite.attrib["tests"]) == len(suite)


def test_cases_without_variables_are_counted():
    templated = results("new", ALL, "x", target={"template": {"user": "{{a}}"}}, rendered=200)
    made = reports.make(inputs(candidate=templated, alerts=None), GateSettings())
    assert made["warnings"] == [
        "100 of 300 cases have no variables for the template of the candidate: for these only model and parameters are "
        "compared",
        "alerts were not looked at: there is no lake here",
    ]


def test_cases_that_nobody_reviewed_are_shown_and_block_nothing():
    bad = range(200, 300)
    cases = tuple(replace(case, shadow=i in bad) for i, case in enumerate(CASES))
    golden = GoldenCases("production@3", cases)
    made = reports.make(inputs(bad, golden=golden), GateSettings())
    assert made["verdict"] == "pass"
    rows = {(c["name"], c["scope"]): (c["verdict"], c["mode"], c["cases"]) for c in made["checks"]}
    assert rows["exact", ""] == ("pass", "must_pass", 200)
    assert rows["exact", "cases that nobody reviewed"] == ("regress", "inform", 100)
    assert made["warnings"] == ["100 of 300 cases are not reviewed: they are shown and block nothing"]
    assert golden.content_hash == GoldenCases("x", CASES).content_hash


def test_a_set_that_nobody_reviewed_decides_nothing():
    golden = GoldenCases("production@3", tuple(replace(case, shadow=True) for case in CASES))
    made = reports.make(inputs(range(100), golden=golden), GateSettings())
    assert made["verdict"] == "undecided"
    assert "nobody reviewed a case of this set" in made["reasons"][0]
