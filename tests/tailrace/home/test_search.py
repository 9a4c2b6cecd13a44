"""Files that hold a text are named, whatever else stands in the home."""

from __future__ import annotations

import os

from tailrace.home.search import files_with


def test_files_with_a_text_are_named_and_folders_left_out_are_not_read(tmp_path):
    for name in ("reports/a.html", "lake/data/b.parquet", "c", "empty"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"" if name == "empty" else b"x\xff" * 5000 + "for Zo\u00eb".encode())
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("c")
    found = files_with(tmp_path, [b"nobody", "Zo\u00eb".encode()], besides=[tmp_path / "lake"])
    assert [file.name for file in found] == ["c", "a.html"]
    assert files_with(tmp_path, [b"nobody"]) == []
