"""What every batch job keeps: it runs on a lake that has nothing for it, reports as JSON, and ends when asked to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobs.due import latest
from tailrace import wiring
from tailrace.batch_jobs import JOBS
from tailrace.home.layout import Home
from tailrace.settings.model import KafkaSettings, Settings
from tests.jobs.data_quality import lake as made
from warehouse.errors import LakeMissingError
from warehouse.storage.connect import LakeConfig

EACH = pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def here(tmp_path_factory, broker):
    """A home whose lake holds one call."""
    home = tmp_path_factory.mktemp("home")
    config = LakeConfig(str(Home(home).catalog), str(Home(home).data_path))
    made.land(config, made.WELL, raw_calls=[made.call(1, made.WELL)])
    kafka = KafkaSettings(bootstrap_servers=broker.bootstrap, prefix="contract.", partitions=1)
    settings = Settings(home=home, kafka=kafka, budgets=[{"usd": 10_000}])
    wiring.make_topics(settings, broker.bootstrap)
    return SimpleNamespace(settings=settings, bootstrap_servers=broker.bootstrap, home=Home(home))


def test_names_are_unique_and_each_has_its_page():
    assert len({job.name for job in JOBS}) == len(JOBS)
    assert [job.name for job in JOBS if not (DOCS / job.page).is_file()] == []


@EACH
def test_it_reports_on_a_lake_that_has_nothing_for_it(job, here):
    report, text = job.run(here, lambda: False)
    assert report.ok is True, text
    assert json.loads(report.to_json())
    assert text.splitlines()[0].strip()


@EACH
def test_it_ends_when_it_is_asked_to_before_it_begins(job, here):
    report, text = job.run(here, lambda: True)
    assert json.loads(report.to_json())
    assert text


@EACH
def test_without_a_lake_it_says_so(job, here, tmp_path):
    settings = here.settings.model_copy(update={"home": tmp_path})
    nowhere = SimpleNamespace(settings=settings, bootstrap_servers=here.bootstrap_servers, home=Home(tmp_path))
    with pytest.raises(LakeMissingError):
        job.run(nowhere, lambda: False)


@EACH
def test_its_times_are_positive_and_due_at_least_once_a_year(job):
    line = job.line
    assert line.attempts >= 1
    assert line.grace_s >= 60
    assert latest(line, made.micros(made.WELL)) > made.micros(made.WELL) - 366 * 86_400 * 1_000_000


def test_the_list_of_jobs_imports_none_of_their_libraries():
    words = (
        "import sys; from tailrace.batch_jobs import JOBS; "
        "print(sorted({'duckdb', 'polars', 'torch', 'great_expectations', 'sentence_transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
