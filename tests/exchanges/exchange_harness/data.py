"""The recorded data that the proofs read. None of it is in the repository."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[3]


def folder() -> Path:
    """Return the folder of the recorded data, whether it exists or not."""
    return Path(os.environ.get("TAILRACE_TEST_DATA") or REPO.parent / "shared" / "data")


def rows(name: str) -> list[dict[str, Any]]:
    """Return every row of ``payloads/<name>.jsonl.gz``."""
    with gzip.open(folder() / "payloads" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
