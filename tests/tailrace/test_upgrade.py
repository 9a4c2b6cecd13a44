"""`tailrace upgrade --check` in words, and where no broker runs. tests/upgrade/test_rolling.py asks running brokers."""

import os
import tarfile
from pathlib import Path

from fault_harness.zygote import run_command

from pipelines.pending import Pending
from tailrace.cli.upgrade import _kafka_lines

HOME = Path(__file__).parents[1] / "fixtures" / "home-0.1.0.tar.gz"


def test_without_brokers_it_shows_the_lake_and_says_what_it_did_not_ask(tmp_path):
    with tarfile.open(HOME) as tar:
        tar.extractall(tmp_path, filter="data")
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_")}
    found = run_command(["--home", str(tmp_path / "home"), "upgrade", "--check"], env=clean, timeout=200)
    assert found.returncode == 0, found.stderr
    assert "this Tailrace writes version" in found.stdout
    assert "kafka: not asked: no Tailrace runs in" in found.stdout


def test_each_finding_is_a_line_under_what_becomes_of_it():
    nothing = Pending((), (), ("llm.events: retention.ms is 1, wanted 2; remedy",), (), ())
    assert list(_kafka_lines(nothing)) == [
        "ok: topics and the states of detect and drift are of this version, nothing would change",
        "topics: would stay as they are",
        "  llm.events: retention.ms is 1, wanted 2; remedy",
    ]
    found = Pending(("llm.quotas",), ("llm.samples: retention.ms 1 to 2",), (), ("a refusal",), ("a state",))
    assert list(_kafka_lines(found)) == [
        "topics: would be made",
        "  llm.quotas",
        "topics: would be changed",
        "  llm.samples: retention.ms 1 to 2",
        "states",
        "  a state",
        "refused: a stage would not start",
        "  a refusal",
    ]
