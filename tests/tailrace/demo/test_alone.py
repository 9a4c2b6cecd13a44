"""The demo's calls are invented: whatever the shell or the folder says, none may reach a real topic or lake."""

import os
import tempfile

import pytest

from schemas.errors import SettingsError
from tailrace.cli.demo import _alone


@pytest.fixture(autouse=True)
def production(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "environ", {**os.environ, "TAILRACE_KAFKA__BOOTSTRAP_SERVERS": "kafka-1:9092"})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    os.environ["TAILRACE_LAKE__CATALOG"] = "postgres:dbname=real"
    os.environ["TAILRACE_WEBHOOK_SECRET"] = "whsec_c2VjcmV0"
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "tailrace.toml").write_text('[kafka]\nprefix = "real."\n[lake]\ndata_path = "s3://real"\n')
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("kept", [True, False])
def test_neither_the_environment_nor_a_file_reaches_the_demo_and_its_stages(kept, tmp_path):
    settings = _alone(tmp_path / "kept" if kept else None)
    assert (settings.kafka.bootstrap_servers, settings.kafka.prefix) == (None, "")
    assert (settings.lake.catalog, settings.lake.data_path) == (None, None)
    assert [name for name in os.environ if name.startswith("TAILRACE_")] == ["TAILRACE_HOME"]
    assert os.environ["TAILRACE_HOME"] == str(settings.home)


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "lake").mkdir()
    with pytest.raises(SettingsError, match="not empty"):
        _alone(home)
    assert os.environ["TAILRACE_LAKE__CATALOG"] == "postgres:dbname=real"
