"""What the operating system refuses is one line that names it, and exit code 2: for every command and every path."""

from __future__ import annotations

import signal
import subprocess
import sys

import polars as pl
import pytest

from tests.tailrace.commands import every_command
from tests.tailrace.many_runs import REPO, Run, run_all
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

KAFKA = {"TAILRACE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9"}
"""Nobody listens there: a path is refused before anything is sent."""
PATHS = {
    **{"file": "input", "texts": "input", "out": "output", "keep": "output"},
    **{"to_file": "output", "from_file": "input", "manifest": "input", "events": "input"},
    **{"candidate": "input", "baseline": "input", "thresholds": "input", "report": "input", "cache": "folder"},
    "folder": "folder",
}
"""Every parameter that is a path; a new one has to be named here."""
NEEDS_NO_SETTINGS = {"settings reference", "job list", "demo", "eval scorers", "gate approve"}
EXITS = {"gate": 3, "ab": 3}
"""Exit code of a refusal where it is not 2, which is the verdict "undecided"."""
NEEDS_NO_LAKE = {
    *("settings", "status", "kafka stop", "kafka fetch", "emit", "replay", "user id", "alerts ping", "attach"),
    *("land", "meter", "detect", "drift", "notify", "schedule", "topics create", "topics adopt", "doctor"),
    *("gate", "gate approve", "eval run", "golden import", "budgets"),
    *("prices list", "prices show", "prices explain", "prices publish", "prices reprice"),
    *("lake restore", "release mark"),
}
"""Commands that end well without a lake; or ask Kafka first, and try again for as long as it does not answer."""
VALUES = {"target": "jsonl", "since": "2026-11-01", "until": "2026-11-02", "position": "0@1", "name": "maintain"}
VALUES |= {"series": "app=x"}
VALUES |= {"old": "1", "new": "2", "a": "x", "b": "y", "verdict": "useful"}
MORE = {
    "upgrade": ["--check"],
    "audit": ["--tenant", "x"],
    "forget": ["--user", "x"],
    "golden review": ["x", "--accept"],
    "demo": ["--exit"],
    "gate approve": ["--by", "x"],
    "ab": [],
}


@pytest.fixture(scope="module")
def commands():
    return {" ".join(path): command for path, command in every_command()}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder of things that cannot be used, and a lake that can."""
    base = tmp_path_factory.mktemp("refusals")
    (base / "file").write_text("x")
    (base / "folder").mkdir()
    (base / "broken.parquet").write_bytes(b"PAR1 and no more")
    (base / "folder.parquet").mkdir()
    (base / "unreadable.jsonl").touch(mode=0)
    (base / "side.yaml").write_text("command: ['true']\nversion: '1'\n")
    (base / "golden.jsonl").write_text('{"case_id": "a", "input_text": "Hello"}\n')
    (base / "closed").mkdir(mode=0)
    (base / "read-only").mkdir(mode=0o555)
    (base / "not-utf-8").mkdir()
    (base / "not-utf-8" / "tailrace.toml").write_bytes(b"# \xfc\n")
    (base / "no-lake" / "lake").mkdir(parents=True)
    (base / "no-lake" / "lake" / "catalog.sqlite").write_bytes(b"no database" * 1000)
    (base / "catalog-is-a-folder" / "lake" / "catalog.sqlite").mkdir(parents=True)
    pl.DataFrame({"service": ["code"], "t_s": [0.0], "input_tokens": [1], "output_tokens": [1]}).write_parquet(
        base / "traffic.parquet"
    )
    lake = base / "home" / "lake"
    Lake.open(LakeConfig(str(lake / "catalog.sqlite"), str(lake / "data")), now=lambda: 1_790_000_000_000_000).close()
    yield base
    (base / "closed").chmod(0o700)
    (base / "read-only").chmod(0o700)


def arguments(name, command, base, **given):
    """The words of a call of ``command`` with what it requires, and ``given``."""
    words = [*name.split(), *MORE.get(name, ())]
    if name == "gate":
        sides = {"--candidate": "side.yaml", "--baseline": "side.yaml", "--golden": "golden.jsonl"}
        words += [word for option, file in sides.items() for word in (option, str(base / file))]
        words += ["--out", str(base / "gate-report")]
    if name == "sql" and "file" not in given:
        words.append("FROM range(10)")
    for param in command.params:
        value = given.get(param.name)
        if value is None and param.required:
            value = str(base / "traffic.parquet") if param.name == "file" else VALUES.get(param.name, "x")
            value = str(base / "golden.jsonl") if name == "golden import" and param.name == "file" else value
            value = str(base / "new-file") if param.name == "out" else value
            value = str(base / "new-lake" / param.name) if name.startswith("lake ") else value
        if value is not None:
            words += [value] if param.param_type_name == "argument" else [param.opts[0], value]
    return words


HOMES = {
    "file": "file",
    "not-utf-8": "not-utf-8/tailrace.toml",
    "closed": "closed/tailrace.toml",
    "no-lake": "no-lake/lake/catalog.sqlite",
    "catalog-is-a-folder": "catalog-is-a-folder/lake/catalog.sqlite",
    "read-only/new": "read-only/new",
}
"""Home -> what has to be named."""
NO_SETTINGS = ("file", "not-utf-8", "closed")
NO_LAKE = ("no-lake", "catalog-is-a-folder")


def calls_with_homes(commands, base):
    for home, culprit in HOMES.items():
        for name, command in commands.items():
            starts = name in ("up", "kafka start")
            if home == "closed" and name not in ("status", "emit", "sql", "up", "job run"):
                continue  # refused where `file` is, for all of them
            if name in NEEDS_NO_SETTINGS or (home not in NO_SETTINGS and name in NEEDS_NO_LAKE):
                continue
            if (starts and home in NO_LAKE) or (name == "tail" and home == "read-only/new"):
                continue  # the broker needs no lake; tail waits for one that is not there yet
            call = Run([*arguments(name, command, base), "--home", str(base / home)], {} if starts else KAFKA)
            yield f"{name} --home {home}", str(base / culprit), call


def calls_with_paths(commands, base):
    common = ["folder/none/x.parquet", "file/x.parquet", "closed/x.parquet", "x" * 300]
    bad = {
        "input": [*common, "none.jsonl", "folder", "folder.parquet", "broken.parquet", "unreadable.jsonl"],
        "output": [*common, "file", "folder", "read-only/x"],
        "folder": ["file/x", "closed/x", "x" * 300, "file", "read-only/x"],
    }
    for name, command in commands.items():
        for param in (p for p in command.params if p.name != "home" and p.type_descriptor.is_path):
            for path in bad[PATHS[param.name]]:
                if (param.name, path) in (("keep", "folder"), ("keep", "folder/none/x.parquet")):
                    continue  # empty, or made
                if (name, path) in (("sql", "broken.parquet"), ("golden import", "broken.parquet")):
                    continue  # the file is SQL; a Parquet file is no golden set, whatever is in it
                if (name, path) in (("gate", "folder"), ("gate approve", "folder"), ("alerts export", "folder")):
                    continue  # a capsule goes into it, an empty one takes a report; one with none is named by its file
                words = arguments(name, command, base, **{param.name: str(base / path)})
                call = Run([*words, "--home", str(base / "home")], KAFKA)
                yield f"{name} {param.name}={path[:40]}", str(base / path), call


def calls_with_a_full_device(commands, base):
    message = "cannot write standard output: No space left on device; free some space"
    for name in ("settings", "settings reference", "job list", "status", "sql", "verify"):
        words = [*arguments(name, commands.get(name), base), "--home", str(base / "home")]
        yield f"{name} > /dev/full", message, Run(words, KAFKA, stdout="/dev/full")


@pytest.fixture(scope="module")
def of_homes(commands, base):
    return wrong_ends(calls_with_homes(commands, base))


def wrong_ends(calls):
    """Label -> what is wrong with its end, empty where nothing is. All are run at once: importing takes seconds."""
    listed = list(calls)
    results = run_all([run for *_, run in listed])
    return {
        label: complaint(culprit, done, next((code for name, code in EXITS.items() if label.startswith(f"{name} ")), 2))
        for (label, culprit, _), done in zip(listed, results, strict=True)
    }


def complaint(culprit, done, code):
    lines = done.stderr.strip().splitlines()
    if done.code == -signal.SIGALRM:
        return "it did not end"
    if done.code != code or len(lines) != 1 or culprit not in lines[0]:
        return f"exit {done.code}: {done.stderr[-400:]}"
    return ""


@pytest.mark.parametrize("home", HOMES)
def test_every_command_refuses_a_home_that_cannot_be_used(home, of_homes):
    mine = {label: wrong for label, wrong in of_homes.items() if label.endswith(f" --home {home}")}
    assert len(mine) > 4
    assert {label: wrong for label, wrong in mine.items() if wrong} == {}


@pytest.mark.extended
def test_every_path_of_every_command_is_refused_where_it_cannot_be_used(commands, base):
    ends = wrong_ends(calls_with_paths(commands, base))
    assert len(ends) > 40
    assert {label: wrong for label, wrong in ends.items() if wrong} == {}


def test_a_full_device_behind_stdout_is_named(commands, base):
    ends = wrong_ends(calls_with_a_full_device(commands, base))
    assert len(ends) > 5
    assert {label: wrong for label, wrong in ends.items() if wrong} == {}


def test_the_refusal_names_the_remedy(base):
    cases = {
        "none.jsonl": "No such file or directory; name one that exists",
        "folder": "Is a directory; name a file, not a folder",
        "broken.parquet": "name a Parquet file that is whole",
    }
    results = run_all([Run(["emit", str(base / name)], KAFKA) for name in cases])
    for (name, text), done in zip(cases.items(), results, strict=True):
        assert f"cannot read {base / name}: " in done.stderr
        assert done.stderr.strip().endswith(text)


def test_output_into_a_closed_pipe_ends_quietly(base):
    command = f"{sys.executable} -m tailrace --home '{base / 'home'}' sql 'FROM range(200000)' --format csv | head -n 1"
    done = subprocess.run(["sh", "-c", command], cwd=REPO, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("range\n", "")


def test_a_wrong_choice_is_refused_in_plain_words():
    done = subprocess.run(
        [sys.executable, "-m", "tailrace", "attach", "excel"], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("tailrace: Invalid value for 'target': 'excel' is not one of 'duckdb', ")
