"""gate.yaml: what it may say, and which line of it holds."""

from __future__ import annotations

from datetime import date

import pytest

from jobs.gate.settings import GateInputError, GateSettings, Mode, parse
from jobs.gate.verdict import Limit

WHOLE = """
samples: 3
quality:
  - {limit: 5}
  - {scorer: exact_match, limit: 2}
  - {scorer: exact_match, feature: checkout, limit: 1, mode: must_not_regress}
  - {feature: checkout, limit: 10%rel}
  - {task: summarise, limit: 8}
safety:
  - {scorer: pii, limit: 0.5}
cost: {limit: 10%rel, mode: must_pass}
latency_p95: {limit: 30 %rel}
ttft_p95: {mode: must_not_regress}
waivers:
  - {alert: a1, reason: known and fixed, by: Ada, date: 2026-11-20}
"""


def test_a_whole_file():
    found = parse(WHOLE)
    assert (found.samples, found.seed) == (3, 1)
    assert found.cost.limit == Limit(0.1, relative=True)
    assert found.cost.mode is Mode.MUST_PASS
    assert found.latency_p95.limit == Limit(0.3, relative=True)
    assert found.ttft_p95.limit == Limit(0.25, relative=True)
    assert found.ttft_p95.mode is Mode.MUST_NOT_REGRESS


@pytest.mark.parametrize(
    ("scorer", "feature", "task", "limit"),
    [
        ("exact_match", "checkout", "summarise", Limit(0.01)),
        ("exact_match", "search", "summarise", Limit(0.02)),
        ("judge", "checkout", "summarise", Limit(0.1, relative=True)),
        ("judge", "search", "summarise", Limit(0.08)),
        ("judge", "search", "other", Limit(0.05)),
    ],
)
def test_the_most_specific_rule_holds(scorer, feature, task, limit):
    assert parse(WHOLE).rule("quality", scorer=scorer, feature=feature, task=task).limit == limit


def test_safety_has_rules_of_its_own_and_five_points_where_none_fits():
    found = parse(WHOLE)
    assert found.rule("safety", scorer="pii", feature="", task="").limit == Limit(0.005)
    assert found.rule("safety", scorer="toxicity", feature="", task="").limit == Limit(0.05)


def test_an_empty_file_is_the_defaults():
    assert parse("") == parse("# nothing\n") == GateSettings()
    assert GateSettings().samples == 5


def test_a_waiver_names_alert_reason_person_and_date():
    found = parse(WHOLE)
    assert found.waiver("a1", date(2026, 11, 29)).by == "Ada"
    assert found.waiver("a1", date(2026, 11, 19)) is None
    assert found.waiver("a2", date(2026, 11, 29)) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("quality: [", "line 1"),
        ("- a\n- b", "object"),
        ("qualty: []", "qualty"),
        ("samples: 0", "samples is 0"),
        ("samples: many", "samples"),
        ("quality: [{limit: 5%}]", "5%rel for 5 % of the baseline"),
        ("quality: [{limit: 0}]", "limit 0"),
        ("quality: [{limit: 101}]", "limit 101"),
        ("quality: [{limit: .nan}]", "limit nan"),
        ("quality: [{mode: block}]", "mode"),
        ("cost: {limit: 5}", "20%rel"),
        ("cost: {limit: 5%rel, feature: x}", "leave scorer, feature and task out"),
        ("waivers: [{alert: a, by: me, date: 2026-01-01}]", "reason"),
        ("waivers: [{alert: a, reason: ' ', by: me, date: 2026-01-01}]", "reason is empty"),
        ("waivers: [{alert: a, reason: b, by: me, date: soon}]", "date"),
        ("!!python/object/apply:os.system ['true']", "no YAML"),
    ],
)
def test_what_is_wrong_is_named(text, said):
    with pytest.raises(GateInputError) as error:
        parse(text, "our/gate.yaml")
    assert said in str(error.value)
    assert str(error.value).startswith("our/gate.yaml")
