"""The Dockerfile: what can be said of it without Docker."""

import fnmatch
import re
import shlex

from compose_harness.document import REPO

TEXT = (REPO / "Dockerfile").read_text()
STAGES = re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]


def stage(name):
    return next(each for each in STAGES if re.match(rf"\S+ AS {name}\n", each))


def test_the_last_stages_have_packages_copied_in_and_install_nothing():
    for name in ("runtime", "slim", "full"):
        assert not re.search(r"apt|pip|gcc|build-essential|uv ", stage(name)), name
    assert stage("slim").count("COPY") == stage("full").count("COPY") == 1
    assert STAGES[-1].startswith("runtime AS full\n")  # what `docker build .` makes


def test_it_runs_as_a_user_by_number_with_a_health_check_and_as_an_exec():
    runtime = stage("runtime")
    assert re.search(r"^USER \d+:\d+$", runtime, re.MULTILINE)
    assert 'ENTRYPOINT ["tailrace"]' in runtime
    assert "HEALTHCHECK" in runtime
    assert '"tailrace.probe"' in runtime
    assert "-m 0777 /data" in runtime


def test_torch_s_index_has_no_default_and_the_lock_is_hashed():
    assert re.search(r"^ARG TORCH_INDEX$", TEXT, re.MULTILINE)
    installs = re.findall(r"uv pip install .*?(?=&&|\\\n\s+else|\n[^ ])", TEXT, re.DOTALL)
    for each in installs:
        assert "--require-hashes" in each or "/dist/*.whl" in each or "TORCH_INDEX" in each, each


def test_what_is_copied_exists_and_is_not_ignored():
    kept = [line[1:] for line in (REPO / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE):
        for source in shlex.split(line)[:-1]:
            assert (REPO / source).exists(), source
            assert any(fnmatch.fnmatch(source, each) or source.startswith(f"{each}/") for each in kept), source
    assert not any(name in kept for name in (".git", "deploy", "tests", ".env"))
