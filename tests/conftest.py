"""What every test may ask for: one real broker, names of its own, the real data; and what a run must say."""

from __future__ import annotations

import itertools
import os
import platform
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tailrace.broker import Broker

REPO = Path(__file__).parent.parent
SERVERS = frozenset({"broker", "brokers", "postgres", "scene", "scenes", "cluster", "chromium"})
STARTERS = frozenset({"Broker", "Scene", "Cluster", "Postgres"})
"""Names by which a test file imports what starts a server."""
if TYPE_CHECKING:
    from fault_harness import matrix
    from fault_harness.postgres import Postgres
# the harness of the fault tests serves others too; this conftest is the one that every run loads
sys.path.insert(0, str(Path(__file__).parent / "faults"))


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka at ``.bootstrap``, started once a session; its jars come from the user's cache."""
    running = Broker(tmp_path_factory.mktemp("kafka-home"))
    running.start(120)  # all tests of the process depend on it, and each of several processes starts one
    yield running
    running.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL; skips where Debian's package is not installed."""
    from fault_harness import postgres as pg

    if pg.binaries() is None:
        pytest.skip("PostgreSQL is not installed (make setup-system)")
    server = pg.Postgres()
    yield server
    server.close()


@pytest.fixture
def prefix() -> str:
    """A topic prefix nobody else uses, such as ``t-1f2e3d4c.``."""
    return f"t-{uuid.uuid4().hex[:8]}."


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder with real traffic, texts and provider payloads; skips where this machine has none."""
    folder = Path(os.environ.get("TAILRACE_TEST_DATA") or REPO.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data absent: no folder {folder.name} (set TAILRACE_TEST_DATA)")
    return folder


@pytest.hookimpl(hookwrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Name the tests marked ``required`` that were skipped: a promise nobody checked is no promise.

    Write the table of the fault matrix where ``TAILRACE_FAULTS_TABLE`` names a file: here, for where tests run in
    several processes, the one that hears of all of them loads no other conftest than this.
    """
    yield
    if not hasattr(terminalreporter.config, "workerinput"):
        if table := os.environ.get("TAILRACE_FAULTS_TABLE"):
            _write_table(terminalreporter, Path(table))
        if seconds := os.environ.get("TAILRACE_TEST_SECONDS"):
            _write_seconds(terminalreporter, Path(seconds))
    if missed := _missed(terminalreporter):
        terminalreporter.section("required tests that were skipped", sep="!", red=True)
        for name in missed:
            terminalreporter.line(name)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI such a run has failed, whatever else passed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and _missed(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Long files first; see tests/order.py."""
    from tests.order import LongFilesFirst

    return LongFilesFirst(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a broker; let every report say which rows of the fault matrix it speaks of."""
    if hasattr(config, "workerinput"):
        from tests.order import long_files_first, mark_long

        long_files_first(items)
        mark_long(items)
    from tests.order import mark_extended

    mark_extended(items)
    for item in items:
        if _needs_broker(item):
            item.add_marker("broker")
        for mark in item.iter_markers("row"):
            item.user_properties += [("row", number) for number in mark.args]


def _needs_broker(item: pytest.Item) -> bool:
    """Whether a test starts Kafka or another server: through a fixture, or with what its file imports."""
    if SERVERS & set(getattr(item, "fixturenames", ())):
        return True
    module = getattr(item, "module", None)
    return module is not None and any(name in vars(module) for name in STARTERS)


def _write_table(reporter: pytest.TerminalReporter, target: Path) -> None:
    from fault_harness import matrix

    outcomes: dict[int, list[matrix.Outcome]] = {}
    for kind, word in (("passed", "passed"), ("failed", "failed"), ("error", "failed"), ("skipped", "skipped")):
        for report in reporter.stats.get(kind, ()):
            reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
            for name, row in report.user_properties:
                if name == "row":
                    outcomes.setdefault(row, []).append((report.nodeid, word, reason))
    when = f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Python {platform.python_version()}"
    target.write_text(matrix.table(outcomes, when))
    reporter.write_line(f"wrote {target}")


def _write_seconds(reporter: pytest.TerminalReporter, target: Path) -> None:
    from tests.order import write_seconds

    write_seconds(itertools.chain.from_iterable(reporter.stats.values()), target)
    reporter.write_line(f"wrote {target}")


def _missed(reporter: pytest.TerminalReporter) -> list[str]:
    return [report.nodeid for report in reporter.stats.get("skipped", ()) if "required" in report.keywords]
