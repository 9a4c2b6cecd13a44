"""Hosts differ: each of these is started for real, with the broker where the host concerns it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tailrace.broker import default_cache
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

REPO = Path(__file__).parents[2]
EVENT = b'{"v":1,"type":"call","id":"01900000-0000-7000-8000-000000000001","ts":1790000000000,"app":"a","model":"m"}\n'
TAILRACE = [sys.executable, "-m", "tailrace"]
UNKNOWN_USER = ["unshare", "--user", "--map-user=12345"]
MOUNTS = ["unshare", "--user", "--map-root-user", "--mount"] if os.geteuid() else ["unshare", "--mount"]


def may(command):
    return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0


@dataclass(frozen=True)
class Host:
    """What is odd about it."""

    name: str
    environment: dict[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    """Variables that are not set."""
    home: str = "home"
    before: tuple[str, ...] = ()
    """Command that starts ours."""


def shell(script):
    """A command that runs ``script``, and then what follows it."""
    return ("sh", "-c", f'{script}; exec "$@"', "sh")


BROKER_HOSTS = [
    Host("a home with a blank and a comma", home="my home, here"),
    Host("a home with umlauts where the locale is C", {"LC_ALL": "C"}, home="höme ß"),
    Host("a home in another script, and a locale that is not installed", {"LC_ALL": "de_DE.ISO-8859-1"}, home="家 дом"),
    Host("Turkish, where the small letter of I has no dot", {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}),
    Host("a JAVA_HOME that is gone", {"JAVA_HOME": "/nowhere/java"}),
    Host("a JAVA_HOME that is too old", {"JAVA_HOME": "{old_java}", "PATH": "{old_java}/bin:{PATH}"}),
    Host("options for other Java programs", {"JAVA_TOOL_OPTIONS": "-Xmx1k", "CLASSPATH": "/nowhere"}),
    Host("a TMPDIR that is gone, no HOME", {"TMPDIR": "/nowhere"}, without=("HOME",)),
    Host("a user without an entry, no HOME", without=("HOME",), before=tuple(UNKNOWN_USER)),
    Host("a read-only /tmp", before=(*MOUNTS, *shell("mount --bind /tmp /tmp && mount -o remount,ro,bind /tmp"))),
    Host("another time zone, a loose umask", {"TZ": "Asia/Kathmandu"}, before=shell("umask 000")),
]
SLOW = ("a comma", "script", "Turkish", "a JAVA_HOME that is gone", "options", "TMPDIR", "time zone")
STARTED = [
    pytest.param(host, marks=pytest.mark.slow) if any(text in host.name for text in SLOW) else host
    for host in BROKER_HOSTS
]
"""A start of the broker costs 7 s of processor time: some hosts only in the long form of the tests."""
READER_HOSTS = [
    Host("a home with a blank", home="my home, here"),
    Host("the locale C", {"LC_ALL": "C"}, home="höme"),
    Host("POSIX without UTF-8 mode", {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Host("a terminal of ASCII", {"PYTHONIOENCODING": "ascii"}, home="höme"),
    Host("no HOME", without=("HOME",)),
    Host("a user without an entry, no HOME", without=("HOME",), before=tuple(UNKNOWN_USER)),
    Host("no TMPDIR", {"TMPDIR": "/nowhere"}),
    Host("another time zone", {"TZ": "Asia/Kathmandu"}),
    Host("80 columns, a dumb terminal", {"COLUMNS": "80", "TERM": "dumb"}),
    Host("nothing behind stdin", before=shell("exec 0<&-")),
    Host("only the path", without=tuple(name for name in os.environ if name not in ("PATH", "PYTHONPATH"))),
    Host("a read-only mount", before=(*MOUNTS, *shell('mount --bind "$TAILRACE_HOME" "$TAILRACE_HOME" && '
                                                     'mount -o remount,ro,bind "$TAILRACE_HOME"'))),
]  # fmt: skip


def environment(host, home, tmp_path):
    """The variables of a process on ``host``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TAILRACE_") and k not in host.without}
    odd = {
        k: v.replace("{old_java}", str(old_java)).replace("{PATH}", os.environ["PATH"])
        for k, v in host.environment.items()
    }
    return {
        **kept,
        **odd,
        "TAILRACE_HOME": str(home),
        "TAILRACE_CACHE": str(default_cache()),  # the tests' machine has the jars; fetching them is no matter of hosts
        "PYTHONPATH": f"{REPO}{os.pathsep}{REPO / 'emitter'}",
    }


@pytest.fixture
def old_java(tmp_path):
    folder = tmp_path / "old-java"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "java").write_text("#!/bin/sh\nexit 1\n")
    (folder / "bin" / "java").chmod(0o755)
    (folder / "release").write_text('JAVA_VERSION="1.8.0_302"\n')


def skip_where_it_cannot_be(host):
    for command in (UNKNOWN_USER, MOUNTS):
        if host.before[: len(command)] == tuple(command) and not may(command):
            pytest.skip(f"this machine does not allow {' '.join(command)}")


def run(host, arguments, env, **more):
    command = [*host.before, *TAILRACE, *arguments]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, timeout=120, check=False, **more)


@pytest.mark.representatives(1)
@pytest.mark.usefixtures("old_java")
@pytest.mark.parametrize("host", STARTED, ids=lambda host: host.name)
def test_the_broker_starts_and_takes_an_event_on(host, tmp_path):
    skip_where_it_cannot_be(host)
    home = (REPO / ".cache" / "hosts" if "/tmp" in host.name else tmp_path) / host.home
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    env = environment(host, home, tmp_path)
    command = [*host.before, sys.executable, "-m", "tailrace.broker", "--home", str(home)]
    errors = (tmp_path / "errors").open("wb")
    with errors, subprocess.Popen(command, env=env, cwd="/", stdout=subprocess.PIPE, stderr=errors) as broker:
        try:
            ready = broker.stdout.readline().decode()
            assert ready.startswith("kafka ready on "), (tmp_path / "errors").read_text()
            env["TAILRACE_KAFKA__BOOTSTRAP_SERVERS"] = ready.split()[3].rstrip(",")
            made = run(host, ["topics", "create"], env)
            assert made.returncode == 0, made.stderr
            sent = run(host, ["emit"], env, input=EVENT)
            assert (sent.returncode, sent.stdout) == (0, b"1 events acknowledged\n"), sent.stderr
        finally:
            broker.send_signal(signal.SIGTERM)
    assert {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in (home / "kafka").rglob("*")} == {0}, "for its owner alone"
    if home.is_relative_to(REPO):
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def a_lake(tmp_path_factory):
    lake = tmp_path_factory.mktemp("lake") / "lake"
    Lake.open(LakeConfig(str(lake / "catalog.sqlite"), str(lake / "data")), now=lambda: 1_790_000_000_000_000).close()
    return lake


@pytest.mark.parametrize("host", READER_HOSTS, ids=lambda host: host.name)
def test_a_reader_asks_the_lake_on(host, a_lake, tmp_path):
    skip_where_it_cannot_be(host)
    home = tmp_path / host.home
    shutil.copytree(a_lake, home / "lake")
    env = environment(host, home, tmp_path)
    asked = (
        "SELECT chr(252) || chr(8230) AS text, TIMESTAMPTZ '2026-01-01 00:00:00Z' AS at, count(*) AS calls FROM calls"
    )
    found = run(host, ["sql", asked, "--format", "json"], env)
    assert (found.returncode, found.stderr) == (0, b"")
    row = json.loads(found.stdout)
    assert (row["text"], row["calls"]) == ("ü…", 0)
    assert row["at"].startswith("2026-01-01"), "UTC, whatever the host's time zone is"
    reference = run(host, ["settings", "reference"], env)
    assert (reference.returncode, reference.stderr) == (0, b"")


def test_nothing_is_left_of_the_copy_that_a_read_only_mount_needs(a_lake, tmp_path):
    host = READER_HOSTS[-1]
    skip_where_it_cannot_be(host)
    shutil.copytree(a_lake, tmp_path / "home" / "lake")
    (tmp_path / "tmp").mkdir()
    env = environment(host, tmp_path / "home", tmp_path) | {"TMPDIR": str(tmp_path / "tmp")}
    checked = run(host, ["verify"], env)
    assert checked.stdout.startswith(b"ok: "), checked.stderr
    assert list((tmp_path / "tmp").iterdir()) == []


def test_the_java_of_the_setting_is_used_where_it_is_given(tmp_path):
    env = environment(Host("plain"), tmp_path / "home", tmp_path) | {"TAILRACE_KAFKA__JAVA": "/nowhere/java"}
    done = run(Host("plain"), ["kafka", "start"], env)
    assert done.returncode == 2
    assert b"java at /nowhere/java/bin/java is missing" in done.stderr
    assert b"TAILRACE_KAFKA__JAVA" in done.stderr
