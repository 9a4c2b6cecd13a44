"""A setting may be the content of a file that TAILRACE_X_FILE names, as containers pass secrets."""

import pytest

from schemas.errors import SettingsError
from tailrace.settings.model import Settings, load
from tailrace.settings.secret_files import value_files


@pytest.fixture
def set_file(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "home"))

    def set_file(variable, text):
        path = tmp_path / variable
        path.write_text(text)
        monkeypatch.setenv(variable, str(path))
        return path

    return set_file


def test_text_secrets_and_lists_are_read_from_files_without_the_line_s_end(set_file):
    set_file("TAILRACE_LAKE__CATALOG_FILE", "postgres:dbname=lake password=canary\n")
    set_file("TAILRACE_WEB__TOKEN_FILE", "a-token\r\n")
    set_file("TAILRACE_ALERT_CHANNELS_FILE", '["https://hooks.example.com/x"]\n')
    settings = load()
    assert settings.lake.catalog == "postgres:dbname=lake password=canary"
    assert settings.web.token.get_secret_value() == "a-token"
    assert settings.alert_channels == ["https://hooks.example.com/x"]


def test_a_variable_beside_a_file_is_refused(set_file, monkeypatch):
    set_file("TAILRACE_LAKE__CATALOG_FILE", "a")
    monkeypatch.setenv("TAILRACE_LAKE__CATALOG", "b")
    with pytest.raises(SettingsError, match=r"lake\.catalog: .*are both set; keep one of them"):
        load()


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("TAILRACE_LAKE__CATALOG_FILE", " \n", "is empty"),
        ("TAILRACE_ALERT_CHANNELS_FILE", "canary", "is not JSON"),
        ("TAILRACE_WEB__PORT_FILE", "canary", "correct the variable TAILRACE_WEB__PORT_FILE"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_file_and_without_its_content(set_file, variable, text, words):
    set_file(variable, text)
    with pytest.raises(SettingsError, match=words) as refused:
        load()
    assert "canary" not in str(refused.value)


def test_a_file_that_is_not_there_is_named(set_file):
    path = set_file("TAILRACE_WEB__TOKEN_FILE", "x")
    path.unlink()
    with pytest.raises(SettingsError, match=rf"web\.token: cannot read {path}: No such file"):
        load()


def test_every_setting_has_one_but_the_key_that_the_emitters_read_themselves():
    assert "TAILRACE_KAFKA__CLIENT_FILE" in value_files(Settings)
    assert "TAILRACE_USER_KEY_FILE" not in value_files(Settings)
