"""What the repository and the two distributions look like from outside."""

import re
import subprocess
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest

REPO = Path(__file__).parent.parent
FOLDERS = ("schemas", "warehouse", "pipelines", "jobs", "tailrace", "tailrace_emitter")


def tracked_texts():
    """(path, text) of every tracked text file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPO, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: nothing says which files are tracked")
    for name in filter(None, listed.stdout.split("\0")):
        file = REPO / name
        if file.is_file() and b"\0" not in (content := file.read_bytes())[:8000]:
            yield name, content.decode(errors="replace")


def test_the_top_of_the_repository_holds_what_is_known_and_nothing_else():
    packages = {"emitter", "jobs", "pipelines", "schemas", "tailrace", "warehouse"}
    others = {"bench", "deploy", "docs", "scripts", "tests", ".ci"}
    tops = {name.split("/")[0] for name, _ in tracked_texts() if "/" in name}
    assert tops == packages | others


def test_no_other_distribution_owns_one_of_our_folders():
    owners = {}
    for distribution in distributions():
        name = distribution.metadata["Name"]
        if name.startswith("tailrace"):
            continue
        for file in distribution.files or ():
            if file.parts[0] in FOLDERS:
                owners.setdefault(file.parts[0], set()).add(name)
    assert owners == {}


def test_the_wheel_ships_every_top_level_package_and_no_other():
    settings = tomllib.loads((REPO / "pyproject.toml").read_text())
    shipped = settings["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted([*shipped, "tailrace_emitter"]) == sorted(FOLDERS)


def test_no_tracked_file_names_a_package_registry():
    # spelt in pieces, or this file would name them itself
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "repo1.maven" + ".org", "repo.maven.apache" + ".org"]
    named = {name: host for name, text in tracked_texts() for host in hosts if host in text}
    assert named == {}


def test_no_tracked_file_knows_a_folder_of_one_machine():
    pattern = re.compile(r"(?<![\w.~-])/(?:home/[a-z]|root/|work/|Users/[A-Za-z]|tmp/bash_jobs)")
    found = {
        f"{name}:{number}"
        for name, text in tracked_texts()
        if name != "tests/test_layout.py"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    }
    assert found == set()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-docs.txt"])
def test_every_package_of_the_lock_is_pinned_and_hashed(lock):
    blocks = re.split(r"\n(?=[a-z0-9])", (REPO / lock).read_text())
    loose = [block.split()[0] for block in blocks if "==" not in block or "--hash=sha256:" not in block]
    assert loose == []


def test_no_test_folder_shadows_a_package():
    packages = {str(p.parent.relative_to(REPO / "tests")) for p in (REPO / "tests").rglob("__init__.py")}
    # two harnesses that their conftest puts on the path by name; everything else is found by its file
    assert packages == {"e2e/main_job", "faults/fault_harness"}
