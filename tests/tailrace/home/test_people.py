"""``user id`` names a person as the emitters do: the real command, the emitter's own function."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from fault_harness.zygote import run_command

from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.home.people import key_file, people
from tailrace.settings.model import Settings
from tailrace_emitter.people import People
from tailrace_emitter.redact import pseudonym

ALICE = "alice@example.org"


@pytest.fixture
def user_id(tmp_path):
    """Run ``tailrace user id alice@example.org`` with these variables and no others of ours."""

    def run(**environment):
        env = {key: value for key, value in os.environ.items() if not key.startswith("TAILRACE_")}
        env |= {"TAILRACE_HOME": str(tmp_path / "home"), **environment}
        return run_command(["user", "id", ALICE], cwd=tmp_path, env=env)

    return run


def test_the_key_may_stand_in_the_variable_or_in_a_file_and_the_variable_wins(user_id, tmp_path):
    (tmp_path / "key").write_text("from the file\n")
    (tmp_path / "tailrace.toml").write_text('user_key = "from the settings"\n')
    file = {"TAILRACE_USER_KEY_FILE": str(tmp_path / "key")}
    both = {**file, "TAILRACE_USER_KEY": "from the variable"}
    for said, key in ((both, "from the variable"), (file, "from the file"), ({}, "from the settings")):
        done = user_id(**said)
        assert (done.returncode, done.stdout) == (0, pseudonym(ALICE, key) + "\n"), done.stderr


@pytest.mark.parametrize("variable", [{}, {"TAILRACE_USER_KEY": ""}], ids=["absent", "empty"])
def test_without_a_key_it_says_what_to_set(user_id, variable):
    done = user_id(**variable)
    assert (done.returncode, done.stdout) == (2, "")
    assert "user_key: not set" in done.stderr
    assert "TAILRACE_USER_KEY_FILE" in done.stderr


def test_a_file_that_is_not_there_is_named(user_id, tmp_path):
    done = user_id(TAILRACE_USER_KEY_FILE=str(tmp_path / "lost"))
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{tmp_path / 'lost'}: No such file or directory" in done.stderr


def test_the_home_makes_one_key_that_only_its_owner_reads_and_keeps_it(user_id, tmp_path):
    settings = Settings(home=tmp_path / "home")
    assert people(settings, make=False) is None
    with ThreadPoolExecutor(8) as pool:
        made = {rule.key for rule in pool.map(lambda _: people(settings), range(8)) if rule}
    assert len(made) == 1
    assert stat.S_IMODE(key_file(settings).stat().st_mode) == 0o600
    assert [path.name for path in settings.home.iterdir()] == ["user.key"]
    assert people(settings) == People(made.pop())
    assert user_id().stdout == pseudonym(ALICE, key_file(settings).read_text().strip()) + "\n"
    assert user_id(TAILRACE_USER_MODE="plain").stdout == ALICE + "\n"


def test_a_key_that_was_set_goes_first_and_mode_plain_asks_for_none(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path)
    assert people(Settings(home=tmp_path, user_mode="plain")) is None
    monkeypatch.setenv("TAILRACE_USER_KEY", "k")
    assert people(settings) == People("k", every=True)
    assert not key_file(settings).exists()


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", None], ids=["empty", "not UTF-8", "a folder"])
def test_a_key_of_the_home_that_cannot_be_read_stops_land_with_its_path(tmp_path, content):
    path = tmp_path / "user.key"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(SettingsError, match=str(path)):
        wiring.land(Settings(home=tmp_path))


def test_land_and_meter_replace_ids_by_the_same_rule(tmp_path):
    settings = Settings(home=tmp_path)
    land = wiring.land(settings).rules.people
    assert land is not None
    assert land == people(settings)
