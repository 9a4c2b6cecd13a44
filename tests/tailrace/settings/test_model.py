import socket

import pytest

from schemas.errors import SettingsError
from tailrace import wiring
from tailrace.settings.model import Settings, load


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


def test_a_wrong_value_names_where_it_was_set(monkeypatch, tmp_path):
    (tmp_path / "tailrace.toml").write_text('[kafka]\npartitions = "many"\n')
    with pytest.raises(SettingsError, match=rf"kafka\.partitions: .* correct {tmp_path}/tailrace\.toml$"):
        load()
    monkeypatch.setenv("TAILRACE_KAFKA__PARTITIONS", "many")
    with pytest.raises(SettingsError, match=r"correct the variable TAILRACE_KAFKA__PARTITIONS$"):
        load()


def test_a_list_that_is_not_json_names_the_variable_and_not_its_value(monkeypatch):
    monkeypatch.setenv("TAILRACE_ALERT_CHANNELS", "https://hooks.example/canary")
    with pytest.raises(SettingsError, match=r"TAILRACE_ALERT_CHANNELS is not JSON") as caught:
        load()
    assert "canary" not in str(caught.value)


def test_a_misspelt_variable_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setenv("TAILRACE_KAFKA_BOOTSTRAP_SERVERS", "kafka-1:9092")
    with pytest.raises(SettingsError, match="did you mean TAILRACE_KAFKA__BOOTSTRAP_SERVERS"):
        load()


def test_a_wrong_value_is_described_without_the_names_of_classes(monkeypatch, tmp_path):
    (tmp_path / "tailrace.toml").write_text("golden = 3\n")
    with pytest.raises(SettingsError, match=r"golden: Input should be a table; correct "):
        load(tmp_path)


def test_azure_deployments_become_rules_of_the_price_book(monkeypatch, tmp_path):
    (tmp_path / "tailrace.toml").write_text('prices = []\n[azure_deployments]\nchat-prod = "gpt-4o"\n')
    assert load().price_rules == [{"deployment": "chat-prod", "model": "gpt-4o"}]
    monkeypatch.setenv("TAILRACE_AZURE_DEPLOYMENTS", '{"mini": "gpt-4o-mini"}')
    assert {"deployment": "mini", "model": "gpt-4o-mini"} in load().price_rules


def test_copies_of_land_need_a_data_path_that_all_of_them_reach(tmp_path):
    """Each would write into its own home, and the others could not read what the catalog names."""
    lake = {"catalog": "postgres:dbname=lake"}
    with pytest.raises(SettingsError, match=r"lake\.data_path: copies of land share a catalog"):
        wiring.land(Settings(home=tmp_path, copy_name="a", lake=lake))
    assert wiring.land(Settings(home=tmp_path, copy_name="a", lake={**lake, "data_path": "s3://b/x"})).copy_name == "a"
    assert wiring.copy_name(Settings(home=tmp_path, copy_name="host")) == socket.gethostname()


def test_land_and_meter_gather_as_many_bytes_as_the_settings_say(tmp_path, monkeypatch):
    monkeypatch.setenv("TAILRACE_LAND__BATCH_MB", "3")
    monkeypatch.setenv("TAILRACE_METER__BATCH_MB", "2")
    settings = Settings(home=tmp_path)
    assert wiring.land(settings).batch_bytes == 3 << 20
    assert wiring.meter(settings).batch_bytes == 2 << 20
    monkeypatch.delenv("TAILRACE_METER__BATCH_MB")
    assert wiring.meter(Settings(home=tmp_path)).batch_bytes == 32 << 20


@pytest.mark.parametrize(
    "catalog", ["sqlite:/data/x.sqlite", "sqlite:///x", "ducklake:postgres:dbname=x", "host=db dbname=x"]
)
def test_a_catalog_that_would_become_a_file_of_a_strange_name_is_refused(monkeypatch, catalog):
    monkeypatch.setenv("TAILRACE_LAKE__CATALOG", catalog)
    with pytest.raises(SettingsError, match="the path of an SQLite file"):
        load()


@pytest.mark.parametrize(
    "catalog", ["x.sqlite", "/data/a:b.sqlite", "./postgres", "postgres:host=db", "postgresql://u@h/d"]
)
def test_paths_and_connection_strings_are_catalogs(monkeypatch, catalog):
    monkeypatch.setenv("TAILRACE_LAKE__CATALOG", catalog)
    assert load().lake.catalog == catalog
