"""The job live_quality between Kafka and the lake: a run that is killed after publishing is not told twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta

import numpy as np
import pytest

from tailrace.job_runs import live_quality as shell
from tests.jobs.data_quality import lake as made
from tests.jobs.live_quality.test_job import thumbs
from tests.tailrace.job_runs import test_novelty
from tests.tailrace.job_runs.test_novelty import NOW, ledger, published

here = test_novelty.here
"""A home with Kafka and a lake."""


@pytest.fixture
def worse(here, monkeypatch):
    """The same with twelve days of thumbs, of which the last day is bad."""
    rng = np.random.default_rng(1)
    for first, days, hours, share in ((20_000, 12, 264, 0.1), (30_000, 1, 23, 0.6)):
        calls, labels = thumbs(rng, NOW - timedelta(days=days), hours, share, first=first, version="17")
        made.land(here.config, NOW - timedelta(minutes=5), raw_calls=calls, raw_feedback=labels)
    monkeypatch.setattr(shell, "now_us", lambda: made.micros(NOW))
    return here


def test_a_run_that_is_killed_after_publishing_is_not_told_twice(worse):
    given = {
        "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": worse.bootstrap_servers,
        "TAILRACE_KAFKA__PREFIX": worse.settings.kafka.prefix,
        "TAILRACE_FAULT": "live_quality.after_publish:kill",
    }
    script = test_novelty.RUN.replace("novelty", "live_quality")
    words = ["job", "run", "live_quality", "--home", str(worse.home.path), str(made.micros(NOW))]
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (alert,) = published(worse)
    assert (alert.rule, alert.state, alert.seq) == ("live_thumbs_down", "firing", 0)
    waiting = shell.judge(worse, wait_s=0.0)
    assert not waiting.ok
    assert "1 records of llm.alerts have not landed yet" in waiting.text()
    made.land_alerts(worse.config, NOW, [alert], 0)
    ledger(worse, 1)
    again = shell.judge(worse, wait_s=0.0)
    assert (again.ok, again.alerts) == (True, ())
    assert published(worse) == [alert]
