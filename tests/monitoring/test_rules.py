"""The shipped rules: promtool finds nothing wrong, and each alert fires where it should and not beside it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
RULES = HERE.parents[1] / "deploy" / "prometheus" / "rules" / "tailrace.yml"
needs_promtool = pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is absent (make setup-system)")


def promtool(*words):
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_rules():
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", RULES)


@needs_promtool
def test_each_alert_fires_where_it_should_and_not_beside_it():
    promtool("test", "rules", HERE / "rules_test.yml")


def test_each_alert_has_a_test_and_says_what_to_do():
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    alerts = {rule["alert"]: rule for rule in rules if "alert" in rule}
    fired = {
        case["alertname"]
        for test in yaml.safe_load((HERE / "rules_test.yml").read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert set(alerts) == fired
    assert all(set(rule["annotations"]) == {"summary", "description"} for rule in alerts.values())
    assert {rule["labels"]["severity"] for rule in alerts.values()} == {"info", "warning", "critical"}
