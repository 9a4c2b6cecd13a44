"""A settings file that cannot be used is named, with what to do; it is never passed over."""

import os
from pathlib import Path

import pytest

from schemas.errors import SettingsError
from tailrace.settings.model import Settings, load
from tailrace.settings.toml_file import absolute, find_file, read_file


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("TAILRACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_the_home_s_file_comes_before_that_of_the_working_directory(home, tmp_path):
    assert find_file() is None
    (tmp_path / "tailrace.toml").write_text("")
    assert find_file().resolve() == tmp_path / "tailrace.toml"
    (home / "tailrace.toml").write_text("")
    assert find_file() == home / "tailrace.toml"


def test_a_file_that_is_not_utf_8_is_named(home):
    (home / "tailrace.toml").write_bytes('# Schlüssel\n[kafka]\nprefix = "a."\n'.encode("latin-1"))
    with pytest.raises(SettingsError, match=rf"{home}/tailrace\.toml is not UTF-8 \(byte 6\); save it as UTF-8"):
        load()


def test_a_byte_order_mark_as_editors_of_windows_write_it_is_passed_over(home):
    (home / "tailrace.toml").write_bytes(b'\xef\xbb\xbf[kafka]\r\nprefix = "a."\r\n')
    assert load().kafka.prefix == "a."


def test_a_folder_in_its_place_is_refused(home):
    (home / "tailrace.toml").mkdir()
    with pytest.raises(SettingsError, match=rf"cannot read {home}/tailrace\.toml: Is a directory"):
        load()


def test_a_dangling_link_in_its_place_is_refused(home):
    (home / "tailrace.toml").symlink_to("nowhere")
    with pytest.raises(SettingsError, match=r"cannot read .*No such file"):
        load()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused(home):
    (home / "tailrace.toml").touch(mode=0o000)
    with pytest.raises(SettingsError, match=r"cannot read .*Permission denied"):
        load()


def test_a_home_below_a_file_has_no_settings_file(home, monkeypatch):
    (home / "file").touch()
    monkeypatch.setenv("TAILRACE_HOME", str(home / "file" / "below"))
    assert find_file() is None


def test_a_tilde_without_a_home_folder_is_refused(monkeypatch):
    with pytest.raises(SettingsError, match="name a folder by its whole path"):
        absolute(Path("~nobody-of-this-name/x"))


def test_an_unknown_key_names_the_file(home):
    path = home / "tailrace.toml"
    path.write_text("[lake]\nmemory = '1GB'\n")
    with pytest.raises(SettingsError, match=rf"lake\.memory: unknown in {path} \(did you mean lake\.memory_limit\?\)"):
        read_file(Settings, path)


def test_a_home_whose_name_is_not_text_in_this_locale_is_refused(home):
    with pytest.raises(SettingsError, match="is not text in this locale; set a UTF-8 locale"):
        absolute(home / os.fsdecode(b"h\xc3"))
