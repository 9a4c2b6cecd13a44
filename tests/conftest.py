"""What every test may ask for: one real broker, names of its own, the real data; and what a run must say."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailrace.broker import Broker

REPO = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real Kafka at ``.bootstrap``, started once a session; its jars come from the user's cache."""
    with Broker(tmp_path_factory.mktemp("kafka-home")) as running:
        yield running


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
    """Name the tests marked ``required`` that were skipped: a promise nobody checked is no promise."""
    yield
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


def _missed(reporter: pytest.TerminalReporter) -> list[str]:
    return [report.nodeid for report in reporter.stats.get("skipped", ()) if "required" in report.keywords]
