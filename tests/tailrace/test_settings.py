import pytest

from schemas.errors import SettingsError
from tailrace.settings import load


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_the_environment_wins_over_the_file(monkeypatch, tmp_path):
    (tmp_path / "tailrace.toml").write_text('[kafka]\npartitions = 3\nprefix = "a."\n')
    monkeypatch.setenv("TAILRACE_KAFKA__PARTITIONS", "8")
    settings = load()
    assert settings.kafka.partitions == 8
    assert settings.kafka.prefix == "a."


def test_an_unknown_key_is_refused_by_name(tmp_path):
    (tmp_path / "tailrace.toml").write_text("[kafka]\npartitionz = 3\n")
    with pytest.raises(SettingsError, match=r"kafka\.partitionz") as caught:
        load()
    assert caught.value.name == "kafka.partitionz"


def test_a_file_that_is_not_toml_is_named(tmp_path):
    (tmp_path / "tailrace.toml").write_text("kafka = [")
    with pytest.raises(SettingsError, match="not TOML"):
        load()


def test_a_value_out_of_range_is_refused(monkeypatch):
    monkeypatch.setenv("TAILRACE_KAFKA__PARTITIONS", "0")
    with pytest.raises(SettingsError, match=r"kafka\.partitions"):
        load()


def test_secrets_are_not_printed(monkeypatch):
    monkeypatch.setenv("TAILRACE_WEBHOOK_SECRET", "whsec_canary")
    assert "canary" not in repr(load())


def test_allowed_hosts_may_be_a_plain_list(monkeypatch):
    monkeypatch.setenv("TAILRACE_WEBHOOK_ALLOW_HOSTS", "127.0.0.1, localhost:9000")
    assert load().webhook_allow_hosts == ("127.0.0.1", "localhost:9000")
